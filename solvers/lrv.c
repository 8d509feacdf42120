#include <stdlib.h>
#include <string.h>

#include <petsc/private/pcimpl.h>
#include <petscblaslapack.h>
#include <petsctime.h>

#include "lrv.h"
#include "memory.h"
#include "pivchol.h"
#include "vecchia.h"

#define RANK_FIRST     16
#define RANK_LEAST     128
#define RANK_MOST      4000
#define ROUGH          3 /* 2 nu of the smoothest kernel that starts with half the rank */
#define ROUGH_DIM      3 /* and in how many coordinates at most */
#define NEIGHBORS      30
#define NEIGHBORS_MOST 120
#define ALPHA_LEAST    1e-13 /* of k(x, x): what rounding leaves of a ridge */
#define OPTION_MOST    40000 /* r^2 has to be a number of MPI and BLAS */
#define PIVOT_SHARE    1e-5  /* of the least pivot, at pivots */
#define TWICE_FROM     2e7   /* kappa^2 from which Cholesky QR needs a second pass: sqrt(0.1 / u) */
#define SHIFT_FROM     1e13  /* and from which a third */

typedef struct {
  PetscInt       rank, neighbors; /* asked for, -1: chosen here */
  PetscInt       cap_r, cap_m;    /* of the automatic choice; doubled when it grows */
  PetscBool      full;            /* memory has cut cap_r */
  PetscInt       r, m;
  Mat            A; /* the operator of chol */
  GramPivChol    chol;
  GramVecchia    vecchia;
  Mat            G; /* NULL: I / sqrt(alpha) */
  PetscInt       n; /* local rows */
  Mat            U; /* [n][r]: (I + G F F' G')^-1 = I - U U' */
  PetscReal     *t; /* [r] */
  Vec            y;
  PetscReal      alpha, logdet;
  PetscLogDouble seconds;
} LRV;

static PetscErrorCode FactorsReset(LRV *lrv)
{
  PetscFunctionBegin;
  PetscCall(MatDestroy(&lrv->G));
  PetscCall(VecDestroy(&lrv->y));
  PetscCall(MatDestroy(&lrv->U));
  PetscCall(PetscFree(lrv->t));
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode PCReset_LRV(PC pc)
{
  LRV *lrv = (LRV *)pc->data;

  PetscFunctionBegin;
  PetscCall(FactorsReset(lrv));
  PetscCall(GramPivCholDestroy(&lrv->chol));
  PetscCall(GramVecchiaDestroy(&lrv->vecchia));
  PetscCall(MatDestroy(&lrv->A));
  lrv->r = 0;
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode PCDestroy_LRV(PC pc)
{
  PetscFunctionBegin;
  PetscCall(PCReset_LRV(pc));
  PetscCall(PetscFree(pc->data));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* Where the spectrum of the kernel decays slowly, neighbours in few coordinates do most, and columns cost more than they
   save. */
static PetscInt FirstRank(const GramKernel *kernel, PetscInt n)
{
  const PetscInt  twonu = GramRadialGetInfo(kernel->radial)->twonu;
  const PetscReal share = 0 < twonu && twonu <= ROUGH && kernel->dim <= ROUGH_DIM ? 2 : 4;

  return PetscMax(RANK_LEAST, PetscMin(RANK_MOST, (PetscInt)(share * PetscSqrtReal((PetscReal)n))));
}

/* F, U and the vectors of G in its making: of n rows */
static PetscLogDouble Bytes(PetscInt n, PetscInt r, PetscInt m)
{
  return (PetscLogDouble)n * (24.0 * (PetscLogDouble)r + 16.0 * (PetscLogDouble)(m + 1));
}

/* the cap, halved until a quarter of the memory holds it */
static PetscErrorCode Limit(LRV *lrv)
{
  PetscLogDouble need, have;
  PetscBool      fits = PETSC_FALSE;

  PetscFunctionBegin;
  while (!fits && lrv->cap_r > RANK_FIRST) {
    PetscCall(GramMemoryFits(PetscObjectComm((PetscObject)lrv->A), 4 * Bytes(lrv->n, lrv->cap_r, lrv->cap_m),
                             &fits, &need, &have));
    if (!fits) lrv->cap_r /= 2;
    if (!fits) lrv->full = PETSC_TRUE;
  }
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* r = 16, 32, ... until the residual is below alpha, where nothing local is left to do; else the cap, and neighbours */
static PetscErrorCode Choose(LRV *lrv)
{
  PetscInt  rank = RANK_FIRST, reached;
  PetscReal lambda;

  PetscFunctionBegin;
  lrv->m = lrv->neighbors >= 0 ? lrv->neighbors : lrv->cap_m;
  if (lrv->rank >= 0) {
    PetscCall(GramPivCholGrow(lrv->chol, lrv->rank, 0));
    PetscCall(GramPivCholGetFactor(lrv->chol, &reached, NULL, NULL));
    lrv->r = PetscMin(reached, lrv->rank);
    PetscFunctionReturn(PETSC_SUCCESS);
  }
  while (rank <= lrv->r) rank *= 2; /* where it was is not enough: the estimate would say so again */
  rank = PetscMin(rank, lrv->cap_r);
  while (PETSC_TRUE) {
    PetscCall(GramPivCholGrow(lrv->chol, rank, 0.01 * lrv->alpha));
    PetscCall(GramPivCholGetFactor(lrv->chol, &reached, NULL, NULL));
    lrv->r = PetscMin(rank, reached);
    PetscCall(GramPivCholEstimate(lrv->chol, lrv->r, &lambda));
    if (lambda <= lrv->alpha && lrv->neighbors < 0) lrv->m = 0;
    if (lambda <= lrv->alpha || lrv->r < rank || rank >= lrv->cap_r) PetscFunctionReturn(PETSC_SUCCESS);
    rank = PetscMin(2 * rank, lrv->cap_r);
  }
}

/* the sparse factor of the residual, or its diagonal */
static PetscErrorCode Local(LRV *lrv)
{
  const PetscReal *F;
  const PetscInt  *pivots;
  PetscReal       *delta, least;
  PetscInt         ldf, start, end, n;

  PetscFunctionBegin;
  PetscCall(MatGetOwnershipRange(lrv->A, &start, &end));
  PetscCall(MatGetSize(lrv->A, &n, NULL));
  lrv->logdet = (PetscReal)n * PetscLogReal(lrv->alpha);
  if (lrv->m == 0) PetscFunctionReturn(PETSC_SUCCESS);
  PetscCall(GramPivCholGetFactor(lrv->chol, NULL, &F, &ldf));
  PetscCall(GramPivCholGetPivots(lrv->chol, &pivots, &least));
  PetscCall(PetscMalloc1(end - start, &delta));
  for (PetscInt i = 0; i < end - start; i++) delta[i] = lrv->alpha;
  for (PetscInt j = 0; j < lrv->r; j++) {
    if (pivots[j] >= start && pivots[j] < end)
      delta[pivots[j] - start] = PetscMax(lrv->alpha, PIVOT_SHARE * least);
  }
  PetscCall(GramVecchiaFactor(lrv->vecchia, lrv->A, lrv->r, F, ldf, delta, &lrv->G, &lrv->logdet, NULL));
  PetscCall(PetscFree(delta));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* U = W = G F */
static PetscErrorCode Whiten(LRV *lrv)
{
  MPI_Comm         comm = PetscObjectComm((PetscObject)lrv->A);
  const PetscReal *F;
  PetscReal       *W;
  PetscInt         ldf;
  Mat              dense;

  PetscFunctionBegin;
  PetscCall(GramPivCholGetFactor(lrv->chol, NULL, &F, &ldf));
  if (lrv->G) {
    PetscCall(MatCreate(comm, &dense));
    PetscCall(MatSetSizes(dense, lrv->n, PETSC_DECIDE, PETSC_DETERMINE, lrv->r));
    PetscCall(MatSetType(dense, MATDENSE));
    PetscCall(MatDenseSetLDA(dense, ldf));
    PetscCall(MatSeqDenseSetPreallocation(dense, (PetscScalar *)F));
    PetscCall(MatMPIDenseSetPreallocation(dense, (PetscScalar *)F));
    PetscCall(MatMatMult(lrv->G, dense, MAT_INITIAL_MATRIX, PETSC_DEFAULT, &lrv->U));
    PetscCall(MatDestroy(&dense));
    PetscFunctionReturn(PETSC_SUCCESS);
  }
  PetscCall(MatCreateDense(comm, lrv->n, PETSC_DECIDE, PETSC_DETERMINE, lrv->r, NULL, &lrv->U));
  PetscCall(MatDenseGetArrayWrite(lrv->U, &W));
  for (PetscInt j = 0; j < lrv->r; j++) {
    for (PetscInt i = 0; i < lrv->n; i++)
      W[GramAt(j, lrv->n, i)] = F[GramAt(j, ldf, i)] / PetscSqrtReal(lrv->alpha);
  }
  PetscCall(MatDenseRestoreArrayWrite(lrv->U, &W));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/*
  [W; I] = [U; V] T, the columns of [U; V] orthonormal: I - U U' = (I + W W')^-1, whose determinant is det(T)^-2. U is
  written over W [n][r].

  By Cholesky QR, as often as the condition kappa of [W; I] makes necessary, kappa^2 <= 1 + trace(W' W): once where that
  leaves the eigenvalues of I - U U', which are 1 / kappa^2 at least, to a tenth; else twice; three times, the first
  shifted so that it cannot fail, where a factor of W' W + I might not exist in floating point. T. Fukaya et al., Shifted
  Cholesky QR for computing the QR factorization of ill-conditioned matrices, SIAM J. Sci. Comput. 42 (2020) A477-A503.
  One rank factors for all.
*/
static PetscErrorCode Orthonormalize(LRV *lrv, PetscReal *U)
{
  MPI_Comm          comm = PetscObjectComm((PetscObject)lrv->A);
  const PetscScalar one = 1, zero = 0;
  const size_t      square = (size_t)lrv->r * (size_t)lrv->r;
  PetscBLASInt      n, r, ld, info = 0;
  PetscMPIInt       rank, count;
  PetscInt          rows, status[2] = {1, 0}; /* passes, and the column where one fails */
  PetscReal        *C, *V           = NULL, trace;

  PetscFunctionBegin;
  PetscCall(PetscBLASIntCast(lrv->n, &n));
  PetscCall(PetscBLASIntCast(lrv->r, &r));
  PetscCall(PetscMPIIntCast((PetscInt)square, &count));
  PetscCall(MatGetSize(lrv->A, &rows, NULL));
  PetscCallMPI(MPI_Comm_rank(comm, &rank));
  ld = PetscMax(1, n);
  PetscCall(PetscMalloc1(square, &C));
  if (!rank) PetscCall(PetscCalloc1(square, &V));
  for (PetscInt j = 0; j < r && !rank; j++) V[GramAt(j, r, j)] = 1;
  for (PetscInt pass = 0; pass < status[0]; pass++) {
    PetscCall(PetscArrayzero(C, square)); /* C = U' U + V' V */
    if (!rank) PetscCallBLAS("BLASsyrk", BLASsyrk_("U", "T", &r, &r, &one, V, &r, &zero, C, &r));
    if (n) PetscCallBLAS("BLASsyrk", BLASsyrk_("U", "T", &r, &n, &one, U, &ld, &one, C, &r));
    PetscCallMPI(MPI_Reduce(rank ? C : MPI_IN_PLACE, C, count, MPIU_REAL, MPI_SUM, 0, comm));
    if (!rank) {
      if (pass == 0) {
        trace = 0;
        for (PetscInt j = 0; j < r; j++) trace += C[GramAt(j, r, j)];
        if (trace > SHIFT_FROM) status[0] = 3;
        else if (trace > TWICE_FROM) status[0] = 2;
        /* 11 (N r + r (r + 1)) u ||W||^2, which the trace bounds */
        for (PetscInt j = 0; j < r && status[0] == 3; j++)
          C[GramAt(j, r, j)] +=
              11 * ((PetscReal)rows * r + (PetscReal)r * (r + 1)) * PETSC_MACHINE_EPSILON / 2 * trace;
      }
      PetscCallBLAS("LAPACKpotrf", LAPACKpotrf_("U", &r, C, &r, &info));
      status[1] = info;
      if (!info) PetscCallBLAS("BLAStrsm", BLAStrsm_("R", "U", "N", "N", &r, &r, &one, C, &r, V, &r));
    }
    PetscCallMPI(MPI_Bcast(status, 2, MPIU_INT, 0, comm));
    PetscCheck(!status[1], comm, PETSC_ERR_LIB,
               "lrv: Cholesky QR fails in column %" PetscInt_FMT " of pass %" PetscInt_FMT, status[1], pass);
    PetscCallMPI(MPI_Bcast(C, count, MPIU_REAL, 0, comm));
    if (n) PetscCallBLAS("BLAStrsm", BLAStrsm_("R", "U", "N", "N", &n, &r, &one, C, &r, U, &ld));
    for (PetscInt j = 0; j < r; j++) lrv->logdet += 2 * PetscLogReal(C[GramAt(j, r, j)]);
  }
  PetscCall(PetscFree(C));
  PetscCall(PetscFree(V));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* U and its share of log det */
static PetscErrorCode LowRank(LRV *lrv)
{
  PetscReal *U;

  PetscFunctionBegin;
  if (lrv->r == 0) PetscFunctionReturn(PETSC_SUCCESS);
  PetscCall(Whiten(lrv));
  PetscCall(PetscMalloc1(lrv->r, &lrv->t));
  PetscCall(MatDenseGetArray(lrv->U, &U));
  PetscCall(Orthonormalize(lrv, U));
  PetscCall(MatDenseRestoreArray(lrv->U, &U));
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode PCSetUp_LRV(PC pc)
{
  LRV       *lrv = (LRV *)pc->data;
  GramKernel kernel;
  GramPoints points;
  PetscInt   n;

  PetscFunctionBegin;
  PetscCall(PetscTimeSubtract(&lrv->seconds));
  if (lrv->A != pc->pmat) {
    PetscCall(PCReset_LRV(pc));
    PetscCall(PetscObjectReference((PetscObject)pc->pmat));
    lrv->A = pc->pmat;
    PetscCall(GramPivCholCreate(lrv->A, &lrv->chol));
  }
  PetscCall(FactorsReset(lrv));
  PetscCall(GramMatGetKernel(lrv->A, &kernel));
  PetscCall(GramMatGetPoints(lrv->A, &points));
  PetscCall(MatGetSize(lrv->A, &n, NULL));
  PetscCall(MatGetLocalSize(lrv->A, &lrv->n, NULL));
  lrv->alpha = PetscMax(kernel.alpha, ALPHA_LEAST * kernel.amplitude * kernel.amplitude);
  if (!lrv->cap_r) {
    lrv->cap_r = FirstRank(&kernel, n);
    lrv->cap_m = NEIGHBORS;
  }
  lrv->cap_r = PetscMin(lrv->cap_r, n);
  PetscCall(Limit(lrv));
  PetscCall(Choose(lrv));
  lrv->m = PetscMin(lrv->m, n - 1);
  if (lrv->m > 0) {
    if (!lrv->vecchia) PetscCall(GramVecchiaCreate(points, kernel.length_scale, &lrv->vecchia));
    PetscCall(GramVecchiaSetNeighbours(lrv->vecchia, lrv->m));
  }
  PetscCall(Local(lrv));
  PetscCall(LowRank(lrv));
  PetscCall(MatCreateVecs(lrv->A, &lrv->y, NULL));
  PetscCall(PetscTimeAdd(&lrv->seconds));
  PetscCall(PetscInfo(pc, "lrv: rank %" PetscInt_FMT ", %" PetscInt_FMT " neighbours, %g s\n", lrv->r, lrv->m,
                      (double)lrv->seconds));
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode PCApply_LRV(PC pc, Vec v, Vec z)
{
  LRV               *lrv = (LRV *)pc->data;
  const PetscScalar  one = 1, zero = 0, minus = -1;
  PetscBLASInt       n, r, ld, unit = 1;
  PetscScalar       *y;
  const PetscScalar *U;

  PetscFunctionBegin;
  if (lrv->G) PetscCall(MatMult(lrv->G, v, lrv->y)); /* y = G v */
  else PetscCall(VecAXPBY(lrv->y, 1 / PetscSqrtReal(lrv->alpha), 0, v));
  if (lrv->r) {
    PetscCall(PetscBLASIntCast(lrv->n, &n));
    PetscCall(PetscBLASIntCast(lrv->r, &r));
    ld = PetscMax(1, n);
    PetscCall(VecGetArray(lrv->y, &y));
    PetscCall(MatDenseGetArrayRead(lrv->U, &U));
    PetscCall(PetscArrayzero(lrv->t, r));
    if (n)
      PetscCallBLAS("BLASgemv",
                    BLASgemv_("T", &n, &r, &one, U, &ld, y, &unit, &zero, lrv->t, &unit)); /* t = U' y */
    PetscCallMPI(MPI_Allreduce(MPI_IN_PLACE, lrv->t, (PetscMPIInt)r, MPIU_REAL, MPI_SUM,
                               PetscObjectComm((PetscObject)pc)));
    if (n)
      PetscCallBLAS("BLASgemv",
                    BLASgemv_("N", &n, &r, &minus, U, &ld, lrv->t, &unit, &one, y, &unit)); /* y -= U t */
    PetscCall(MatDenseRestoreArrayRead(lrv->U, &U));
    PetscCall(VecRestoreArray(lrv->y, &y));
  }
  if (lrv->G) PetscCall(MatMultTranspose(lrv->G, lrv->y, z)); /* z = G' y */
  else PetscCall(VecAXPBY(z, 1 / PetscSqrtReal(lrv->alpha), 0, lrv->y));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* "auto" is -1 */
static PetscErrorCode NumberOrAuto(MPI_Comm comm, const char *key, const char *text, PetscInt *number)
{
  char *end;
  long  value;

  PetscFunctionBegin;
  *number = -1;
  if (!strcmp(text, "auto") || !strcmp(text, "-1")) PetscFunctionReturn(PETSC_SUCCESS);
  value = strtol(text, &end, 10);
  GramCheckInput(*text && !*end && value >= 0 && value <= OPTION_MOST, comm,
                 "%s: '%s' is neither auto nor a whole number of 0 ... %d", key, text, OPTION_MOST);
  *number = (PetscInt)value;
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode PCSetFromOptions_LRV(PC pc, PetscOptionItems *PetscOptionsObject)
{
  LRV *lrv      = (LRV *)pc->data;
  char rank[32] = "auto", neighbors[32] = "auto";

  PetscFunctionBegin;
  PetscOptionsHeadBegin(PetscOptionsObject, "Low rank and local residual");
  PetscCall(PetscOptionsString("-pc_lrv_rank", "Columns of the low-rank part: auto or a number",
                               "GramPCRegister", rank, rank, sizeof rank, NULL));
  PetscCall(PetscOptionsString("-pc_lrv_neighbors",
                               "Neighbours of a point in the sparse part: auto or a number", "GramPCRegister",
                               neighbors, neighbors, sizeof neighbors, NULL));
  PetscOptionsHeadEnd();
  PetscCall(NumberOrAuto(PetscObjectComm((PetscObject)pc), "pc.lrv_rank", rank, &lrv->rank));
  PetscCall(NumberOrAuto(PetscObjectComm((PetscObject)pc), "pc.lrv_neighbors", neighbors, &lrv->neighbors));
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode PCView_LRV(PC pc, PetscViewer viewer)
{
  const LRV     *lrv = (LRV *)pc->data;
  PetscBool      ascii;
  PetscInt       n;
  PetscLogDouble bytes;

  PetscFunctionBegin;
  PetscCall(PetscObjectTypeCompare((PetscObject)viewer, PETSCVIEWERASCII, &ascii));
  if (!ascii || !lrv->A) PetscFunctionReturn(PETSC_SUCCESS);
  PetscCall(MatGetSize(lrv->A, &n, NULL));
  bytes = (PetscLogDouble)n *
          (16.0 * (PetscLogDouble)lrv->r + (lrv->m ? 12.0 * (PetscLogDouble)(lrv->m + 1) : 0));
  PetscCall(PetscViewerASCIIPrintf(
      viewer, "  rank %" PetscInt_FMT ", %" PetscInt_FMT " neighbors, %.3g MB, set up in %.3g s\n", lrv->r,
      lrv->m, 1e-6 * bytes, lrv->seconds));
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode PCCreate_LRV(PC pc)
{
  LRV *lrv;

  PetscFunctionBegin;
  PetscCall(PetscNew(&lrv));
  lrv->rank = lrv->neighbors = -1;
  pc->data                   = lrv;
  pc->ops->setup             = PCSetUp_LRV;
  pc->ops->apply             = PCApply_LRV;
  pc->ops->applytranspose    = PCApply_LRV;
  pc->ops->reset             = PCReset_LRV;
  pc->ops->destroy           = PCDestroy_LRV;
  pc->ops->setfromoptions    = PCSetFromOptions_LRV;
  pc->ops->view              = PCView_LRV;
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramPCRegister(void)
{
  static PetscBool done;

  PetscFunctionBegin;
  if (!done) PetscCall(PCRegister("lrv", PCCreate_LRV));
  done = PETSC_TRUE;
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* the caps to come; what did not reach its cap gains nothing from another */
static PetscErrorCode Growth(const LRV *lrv, PetscInt *r, PetscInt *m)
{
  PetscInt n;

  PetscFunctionBegin;
  *r = lrv->cap_r;
  *m = lrv->cap_m;
  if (!lrv->m || lrv->rank >= 0 || lrv->neighbors >= 0) PetscFunctionReturn(PETSC_SUCCESS);
  PetscCall(MatGetSize(lrv->A, &n, NULL));
  if (lrv->r == lrv->cap_r && !lrv->full)
    *r = PetscMax(*r, PetscMin(2 * lrv->cap_r, PetscMin(n / 2, RANK_MOST)));
  if (lrv->m == lrv->cap_m) *m = PetscMin(2 * lrv->cap_m, NEIGHBORS_MOST);
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramPCLRVCanGrow(PC pc, PetscBool *can)
{
  const LRV *lrv = (LRV *)pc->data;
  PetscInt   r, m;

  PetscFunctionBegin;
  PetscCall(PetscObjectTypeCompare((PetscObject)pc, "lrv", can));
  if (!*can) PetscFunctionReturn(PETSC_SUCCESS);
  PetscCall(Growth(lrv, &r, &m));
  *can = (PetscBool)(r > lrv->cap_r || m > lrv->cap_m);
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramPCLRVGrow(PC pc)
{
  LRV      *lrv = (LRV *)pc->data;
  PetscBool can;

  PetscFunctionBegin;
  PetscCall(GramPCLRVCanGrow(pc, &can));
  if (!can) PetscFunctionReturn(PETSC_SUCCESS);
  PetscCall(Growth(lrv, &lrv->cap_r, &lrv->cap_m));
  pc->setupcalled = 0;
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramPCLRVGetInfo(PC pc, PetscInt *r, PetscInt *m, PetscReal *alpha, PetscReal *logdet,
                                PetscLogDouble *seconds)
{
  const LRV *lrv = (LRV *)pc->data;

  PetscFunctionBegin;
  if (r) *r = lrv->r;
  if (m) *m = lrv->m;
  if (alpha) *alpha = lrv->alpha;
  if (logdet) *logdet = lrv->logdet;
  if (seconds) *seconds = lrv->seconds;
  PetscFunctionReturn(PETSC_SUCCESS);
}
