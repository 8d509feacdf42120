#include <float.h>
#include <math.h>

#include <petsc/private/petscimpl.h>
#include <petscblaslapack.h>

#include "gram.h"
#include "pcg.h"

/* A column at work. */
typedef struct {
  PetscInt   column; /* of B and X */
  PetscReal  rz, pw, step, rr, form;
  PetscReal *diagonal, *off; /* [capacity] of the Lanczos matrix */
  PetscInt   capacity;
} Active;

/* Panels [n][q], of which the first `left` columns are at work. */
typedef struct {
  MPI_Comm           comm;
  PetscInt           n, left;
  Active            *active;    /* [q] */
  PetscReal         *r, *z, *p; /* [q][n] */
  PetscReal         *x;         /* [q][ldx], all columns of X */
  PetscInt           ldx;
  Mat                R, Z, P, W; /* views of the columns at work; W = A P */
  PetscReal         *sums;       /* [2 q] */
  GramPCGDirections *directions;
} Panels;

static PetscErrorCode ViewsDestroy(Panels *s)
{
  PetscFunctionBegin;
  PetscCall(MatDestroy(&s->R));
  PetscCall(MatDestroy(&s->Z));
  PetscCall(MatDestroy(&s->P));
  PetscCall(MatDestroy(&s->W));
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode ViewsCreate(Panels *s)
{
  PetscFunctionBegin;
  PetscCall(MatCreateDense(s->comm, s->n, PETSC_DECIDE, PETSC_DETERMINE, s->left, s->r, &s->R));
  PetscCall(MatCreateDense(s->comm, s->n, PETSC_DECIDE, PETSC_DETERMINE, s->left, s->z, &s->Z));
  PetscCall(MatCreateDense(s->comm, s->n, PETSC_DECIDE, PETSC_DETERMINE, s->left, s->p, &s->P));
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscReal Dot(PetscInt n, const PetscReal *a, const PetscReal *b)
{
  const PetscBLASInt one = 1, rows = (PetscBLASInt)n;

  return BLASdot_(&rows, a, &one, b, &one);
}

/* y += a x */
static void Add(PetscInt n, PetscReal a, const PetscReal *x, PetscReal *y)
{
  const PetscBLASInt one = 1, rows = (PetscBLASInt)n;

  BLASaxpy_(&rows, &a, x, &one, y, &one);
}

/* z = M^-1 r, r'r and r'z: one allreduce; rz_before [left] */
static PetscErrorCode Precondition(Panels *s, PC pc, PetscReal rz_before[])
{
  PetscMPIInt count;

  PetscFunctionBegin;
  PetscCall(PCMatApply(pc, s->R, s->Z));
  for (PetscInt c = 0; c < s->left; c++) {
    const PetscReal *r = s->r + GramAt(c, s->n, 0);

    s->sums[GramAt(c, 2, 0)] = Dot(s->n, r, r);
    s->sums[GramAt(c, 2, 1)] = Dot(s->n, r, s->z + GramAt(c, s->n, 0));
  }
  PetscCall(PetscMPIIntCast(2 * s->left, &count));
  PetscCallMPI(MPI_Allreduce(MPI_IN_PLACE, s->sums, count, MPIU_REAL, MPI_SUM, s->comm));
  for (PetscInt c = 0; c < s->left; c++) {
    rz_before[c]    = s->active[c].rz;
    s->active[c].rr = s->sums[GramAt(c, 2, 0)];
    s->active[c].rz = s->sums[GramAt(c, 2, 1)];
  }
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* The column at work in place c goes, the last one takes its place. */
static PetscErrorCode Leave(Panels *s, PetscInt c)
{
  const PetscInt last = --s->left;
  const Active   gone = s->active[c];

  PetscFunctionBegin;
  if (c == last) PetscFunctionReturn(PETSC_SUCCESS);
  s->active[c]    = s->active[last];
  s->active[last] = gone;
  PetscCall(PetscArraycpy(s->r + GramAt(c, s->n, 0), s->r + GramAt(last, s->n, 0), s->n));
  PetscCall(PetscArraycpy(s->z + GramAt(c, s->n, 0), s->z + GramAt(last, s->n, 0), s->n));
  PetscCall(PetscArraycpy(s->p + GramAt(c, s->n, 0), s->p + GramAt(last, s->n, 0), s->n));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* of the column at work in place c, to go on from some time; rz_before 0: not from these */
static PetscErrorCode DirectionsKeep(Panels *s, PetscInt c, PetscReal rz_before)
{
  GramPCGDirections *d = s->directions;
  PetscInt           ld;
  PetscReal         *p;

  PetscFunctionBegin;
  if (!d) PetscFunctionReturn(PETSC_SUCCESS);
  d->rz[s->active[c].column] = rz_before;
  if (!(rz_before > 0)) PetscFunctionReturn(PETSC_SUCCESS);
  PetscCall(MatDenseGetLDA(d->P, &ld));
  PetscCall(MatDenseGetArray(d->P, &p));
  PetscCall(PetscArraycpy(p + GramAt(s->active[c].column, ld, 0), s->p + GramAt(c, s->n, 0), s->n));
  PetscCall(MatDenseRestoreArray(d->P, &p));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* R of directions = r of the column at work in place c */
static PetscErrorCode ResidualKeep(Panels *s, PetscInt c)
{
  PetscInt   ld;
  PetscReal *r;

  PetscFunctionBegin;
  if (!s->directions || !s->directions->R) PetscFunctionReturn(PETSC_SUCCESS);
  PetscCall(MatDenseGetLDA(s->directions->R, &ld));
  PetscCall(MatDenseGetArray(s->directions->R, &r));
  PetscCall(PetscArraycpy(r + GramAt(s->active[c].column, ld, 0), s->r + GramAt(c, s->n, 0), s->n));
  PetscCall(MatDenseRestoreArray(s->directions->R, &r));
  s->directions->has_R = PETSC_TRUE;
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode DirectionsTake(Panels *s)
{
  GramPCGDirections *d = s->directions;
  PetscInt           ld;
  const PetscReal   *p;

  PetscFunctionBegin;
  PetscCall(MatDenseGetLDA(d->P, &ld));
  PetscCall(MatDenseGetArrayRead(d->P, &p));
  for (PetscInt c = 0; c < s->left; c++) {
    s->active[c].rz = d->rz[c];
    PetscCall(PetscArraycpy(s->p + GramAt(c, s->n, 0), p + GramAt(c, ld, 0), s->n));
  }
  PetscCall(MatDenseRestoreArrayRead(d->P, &p));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* By bisection, whose cost grows as the iterations and not as their square. */
PetscErrorCode GramPCGRitz(const GramPCGState *state, PetscReal *least, PetscReal *largest)
{
  const PetscReal none = 0, tiny = 2 * DBL_MIN;
  PetscReal      *value, *work, ends[2] = {NAN, NAN};
  PetscBLASInt   *index, rows, found, splits, info;

  PetscFunctionBegin;
  PetscCall(PetscBLASIntCast(state->it, &rows));
  PetscCall(PetscMalloc3(state->it, &value, 4 * state->it, &work, 5 * state->it, &index));
  for (int end = 0; end < 2 && rows; end++) {
    const PetscBLASInt which = end ? rows : 1;

    PetscCallBLAS("LAPACKstebz", LAPACKstebz_("I", "E", &rows, &none, &none, &which, &which, &tiny,
                                              state->diagonal, state->off, &found, &splits, value, index,
                                              index + rows, work, index + 2 * rows, &info));
    if (!info && found) ends[end] = value[0];
  }
  *least   = ends[0];
  *largest = ends[1];
  PetscCall(PetscFree3(value, work, index));
  PetscFunctionReturn(PETSC_SUCCESS);
}

static GramPCGState StateOf(const Active *a, PetscInt it)
{
  return (GramPCGState){.it       = it,
                        .norm     = PetscSqrtReal(a->rr),
                        .rz       = a->rz,
                        .form     = a->form,
                        .diagonal = a->diagonal,
                        .off      = a->off};
}

/* the columns that the test, or arithmetic, ends */
static PetscErrorCode Test(Panels *s, PetscInt it, GramPCGTest test, void *ctx, GramPCGColumn columns[],
                           PetscReal rz_before[])
{
  const PetscInt before = s->left;

  PetscFunctionBegin;
  for (PetscInt c = s->left - 1; c >= 0; c--) {
    const Active      *a     = s->active + c;
    const GramPCGState state = StateOf(a, it);
    GramPCGColumn     *done  = columns + a->column;

    done->iterations = it;
    PetscCall(test(ctx, a->column, &state, &done->reason));
    if (!done->reason && PetscIsInfOrNanReal(a->rr + a->rz)) done->reason = KSP_DIVERGED_NANORINF;
    if (!done->reason && a->rr > 0 && a->rz <= 0) done->reason = KSP_DIVERGED_INDEFINITE_PC;
    if (!done->reason) continue;
    PetscCall(DirectionsKeep(s, c, rz_before[c]));
    PetscCall(ResidualKeep(s, c));
    rz_before[c] = rz_before[s->left - 1];
    PetscCall(Leave(s, c));
  }
  if (s->left != before) {
    PetscCall(ViewsDestroy(s));
    if (s->left) PetscCall(ViewsCreate(s));
  }
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* One row more of T: 1 / step + beta / step before, off-diagonal sqrt(beta) / step before. */
static PetscErrorCode LanczosAdd(Active *a, PetscInt it, PetscReal step, PetscReal beta)
{
  PetscFunctionBegin;
  if (it == a->capacity) {
    a->capacity = PetscMax(64, 2 * it);
    PetscCall(PetscRealloc((size_t)a->capacity * sizeof(PetscReal), &a->diagonal));
    PetscCall(PetscRealloc((size_t)a->capacity * sizeof(PetscReal), &a->off));
  }
  a->diagonal[it] = 1 / step + (it ? beta / a->step : 0);
  if (it) a->off[it - 1] = PetscSqrtReal(beta) / a->step;
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* w = A p; x += step p, r -= step w; columns where p'Ap <= 0 are left as they are */
static PetscErrorCode Step(Panels *s, Mat A, PetscInt it, const PetscReal beta[])
{
  const PetscReal *w;
  PetscInt         ldw;
  PetscMPIInt      count;

  PetscFunctionBegin;
  PetscCall(PetscObjectStateIncrease((PetscObject)s->P));
  PetscCall(MatMatMult(A, s->P, s->W ? MAT_REUSE_MATRIX : MAT_INITIAL_MATRIX, PETSC_DEFAULT, &s->W));
  PetscCall(MatDenseGetLDA(s->W, &ldw));
  PetscCall(MatDenseGetArrayRead(s->W, &w));
  for (PetscInt c = 0; c < s->left; c++)
    s->sums[c] = Dot(s->n, s->p + GramAt(c, s->n, 0), w + GramAt(c, ldw, 0));
  PetscCall(PetscMPIIntCast(s->left, &count));
  PetscCallMPI(MPI_Allreduce(MPI_IN_PLACE, s->sums, count, MPIU_REAL, MPI_SUM, s->comm));
  for (PetscInt c = 0; c < s->left; c++) {
    Active         *a    = s->active + c;
    const PetscReal step = a->rz / s->sums[c];

    a->pw = s->sums[c];
    if (!(a->pw > 0)) continue;
    PetscCall(LanczosAdd(a, it, step, beta[c]));
    a->step = step;
    a->form += step * a->rz;
    Add(s->n, step, s->p + GramAt(c, s->n, 0), s->x + GramAt(a->column, s->ldx, 0));
    Add(s->n, -step, w + GramAt(c, ldw, 0), s->r + GramAt(c, s->n, 0));
  }
  PetscCall(MatDenseRestoreArrayRead(s->W, &w));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* those columns end here */
static PetscErrorCode LeaveIndefinite(Panels *s, GramPCGColumn columns[])
{
  const PetscInt before = s->left;

  PetscFunctionBegin;
  for (PetscInt c = s->left - 1; c >= 0; c--) {
    const Active *a = s->active + c;

    if (a->pw > 0) continue;
    PetscCall(DirectionsKeep(s, c, 0));
    PetscCall(ResidualKeep(s, c));
    columns[a->column].reason =
        PetscIsInfOrNanReal(a->pw) ? KSP_DIVERGED_NANORINF : KSP_DIVERGED_INDEFINITE_MAT;
    PetscCall(Leave(s, c));
  }
  if (s->left != before) {
    PetscCall(ViewsDestroy(s));
    if (s->left) PetscCall(ViewsCreate(s));
  }
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* r = the columns of R */
static PetscErrorCode ResidualTake(Panels *s, Mat R)
{
  const PetscReal *r;
  PetscInt         ld;

  PetscFunctionBegin;
  PetscCall(MatDenseGetLDA(R, &ld));
  PetscCall(MatDenseGetArrayRead(R, &r));
  for (PetscInt c = 0; c < s->left; c++)
    PetscCall(PetscArraycpy(s->r + GramAt(c, s->n, 0), r + GramAt(c, ld, 0), s->n));
  PetscCall(MatDenseRestoreArrayRead(R, &r));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* R = B - A X, or what was kept, or B and X = 0 */
static PetscErrorCode Begin(Panels *s, Mat A, Mat B, Mat X, PetscBool from_x, PetscInt *products)
{
  const PetscBool  kept = (PetscBool)(from_x && s->directions && s->directions->R && s->directions->has_R);
  const PetscReal *ax;
  PetscInt         lda;
  Mat              AX;

  PetscFunctionBegin;
  PetscCall(ResidualTake(s, kept ? s->directions->R : B));
  if (!from_x) PetscCall(MatZeroEntries(X));
  if (!from_x || kept) PetscFunctionReturn(PETSC_SUCCESS);
  PetscCall(MatMatMult(A, X, MAT_INITIAL_MATRIX, PETSC_DEFAULT, &AX));
  PetscCall(MatDenseGetLDA(AX, &lda));
  PetscCall(MatDenseGetArrayRead(AX, &ax));
  for (PetscInt c = 0; c < s->left; c++) Add(s->n, -1, ax + GramAt(c, lda, 0), s->r + GramAt(c, s->n, 0));
  PetscCall(MatDenseRestoreArrayRead(AX, &ax));
  PetscCall(MatDestroy(&AX));
  *products += s->left;
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramPCG(Mat A, PC pc, Mat B, Mat X, PetscBool from_x, GramPCGDirections *directions,
                       GramPCGTest test, void *ctx, GramPCGColumn columns[], PetscInt *products)
{
  Panels     s = {.directions = directions};
  PetscInt   q;
  PetscReal *beta;

  PetscFunctionBegin;
  *products = 0;
  PetscCall(PetscObjectGetComm((PetscObject)A, &s.comm));
  PetscCall(MatGetLocalSize(A, &s.n, NULL));
  PetscCall(MatGetSize(B, NULL, &q));
  s.left = q;
  PetscCall(PetscCalloc3(q, &s.active, 2 * q, &s.sums, q, &beta));
  PetscCall(PetscMalloc3(GramAt(q, s.n, 0), &s.r, GramAt(q, s.n, 0), &s.z, GramAt(q, s.n, 0), &s.p));
  for (PetscInt c = 0; c < q; c++) {
    s.active[c].column = c;
    columns[c]         = (GramPCGColumn){.reason = KSP_CONVERGED_ITERATING};
  }
  PetscCall(Begin(&s, A, B, X, from_x, products));
  if (directions && from_x) PetscCall(DirectionsTake(&s));
  PetscCall(ViewsCreate(&s));
  for (PetscInt it = 0; s.left; it++) {
    PetscCall(PetscObjectStateIncrease((PetscObject)s.R));
    PetscCall(Precondition(&s, pc, beta));
    PetscCall(Test(&s, it, test, ctx, columns, beta));
    if (!s.left) break;
    for (PetscInt c = 0; c < s.left; c++) { /* p = z + beta p */
      PetscReal       *p = s.p + GramAt(c, s.n, 0);
      const PetscReal *z = s.z + GramAt(c, s.n, 0);

      beta[c] = beta[c] > 0 ? s.active[c].rz / beta[c] : 0;
      for (PetscInt i = 0; i < s.n; i++) p[i] = beta[c] > 0 ? z[i] + beta[c] * p[i] : z[i];
    }
    PetscCall(MatDenseGetArray(X, &s.x));
    PetscCall(MatDenseGetLDA(X, &s.ldx));
    PetscCall(Step(&s, A, it, beta));
    PetscCall(MatDenseRestoreArray(X, &s.x));
    *products += s.left;
    PetscCall(LeaveIndefinite(&s, columns));
  }
  PetscCall(ViewsDestroy(&s));
  for (PetscInt c = 0; c < q; c++) {
    Active            *a     = s.active + c;
    const GramPCGState state = StateOf(a, columns[a->column].iterations);

    PetscCall(GramPCGRitz(&state, &columns[a->column].eigenvalue_min, &columns[a->column].eigenvalue_max));
    PetscCall(PetscFree(a->diagonal));
    PetscCall(PetscFree(a->off));
  }
  PetscCall(PetscFree3(s.r, s.z, s.p));
  PetscCall(PetscFree3(s.active, s.sums, beta));
  PetscFunctionReturn(PETSC_SUCCESS);
}
