#include <math.h>

#include "tail.h"

#include <petscblaslapack.h> /* does not include what it needs */

#define CHUNK 256 /* rows computed at once */
#define DEGENERATE \
  1e-10 /* what is left of a row of P, which is of size 1, where all polynomials are determined */

struct _p_GramTail {
  Mat           A; /* borrowed */
  MPI_Comm      comm;
  GramKernel    kernel;
  PetscInt      m, b, N, n, start;       /* monomials, numbers a point; rows of A, those of this rank */
  PetscReal     unit[1 + GRAM_MAX_DIM];  /* D of GramMatGetBlock() */
  PetscReal     ridge[1 + GRAM_MAX_DIM]; /* of A itself */
  PetscReal     centre[GRAM_MAX_DIM], width[GRAM_MAX_DIM];
  PetscInt     *special;  /* [m] rows of A */
  PetscBool    *is;       /* [N] special */
  PetscReal    *rows;     /* [N][2 m] D h and D Pi */
  PetscReal    *P, *LU;   /* [m][m] P_S, and its factors: of P_S' by columns */
  PetscBLASInt *pivots;   /* [m] of them */
  PetscReal     identity; /* what B has on the diagonal in S */
};

/* ---- monomials */

/* row part of P at a point, in coordinates about the centre, gradients included */
static void Row(const struct _p_GramTail *t, PetscInt part, const PetscReal x[], PetscReal p[])
{
  PetscReal u[GRAM_MAX_DIM];

  for (PetscInt c = 0; c < t->kernel.dim; c++) u[c] = (x[c] - t->centre[c]) / t->width[c];
  if (part) GramPolynomialDerivatives(t->kernel.tail_degree, t->kernel.dim, part - 1, u, p);
  else GramPolynomialValues(t->kernel.tail_degree, t->kernel.dim, u, p);
}

/* d / d u to d / d x */
static PetscReal Slope(const struct _p_GramTail *t, PetscInt part)
{
  return part ? 1 / t->width[part - 1] : 1;
}

static void Box(GramTail t, PetscInt n, const PetscReal *x)
{
  const PetscInt dim = t->kernel.dim;

  for (PetscInt c = 0; c < dim; c++) {
    PetscReal lower = x[c], upper = x[c];

    for (PetscInt i = 1; i < n; i++) {
      lower = PetscMin(lower, x[GramAt(i, dim, c)]);
      upper = PetscMax(upper, x[GramAt(i, dim, c)]);
    }
    t->centre[c] = lower / 2 + upper / 2;
    t->width[c]  = upper > lower ? upper / 2 - lower / 2 : 1;
  }
}

/* ---- the special rows */

/* Gram-Schmidt on the rows of P, the longest remainder first: as QR of P' with pivots */
static PetscErrorCode Choose(GramTail t, const PetscReal *x)
{
  const PetscInt m = t->m, dim = t->kernel.dim;
  PetscReal     *left, *q;
  struct {
    double norm;
    int    row;
  } longest;

  PetscFunctionBegin;
  PetscCall(PetscMalloc2(GramAt(t->n, m, 0), &left, m, &q));
  for (PetscInt i = 0; i < t->n; i++)
    Row(t, (t->start + i) % t->b, x + GramAt((t->start + i) / t->b, dim, 0), left + GramAt(i, m, 0));
  for (PetscInt k = 0; k < m; k++) {
    longest.norm = -1;
    longest.row  = INT32_MAX;
    for (PetscInt i = 0; i < t->n; i++) {
      PetscReal sum = 0;

      for (PetscInt c = 0; c < m; c++) sum += PetscSqr(left[GramAt(i, m, c)]);
      if (sum <= longest.norm) continue;
      longest.norm = sum;
      longest.row  = (int)(t->start + i);
    }
    PetscCallMPI(MPI_Allreduce(MPI_IN_PLACE, &longest, 1, MPI_DOUBLE_INT, MPI_MAXLOC, t->comm));
    GramCheckInput(longest.norm > PetscSqr(DEGENERATE), t->comm,
                   "tail.degree: %" PetscInt_FMT " has %" PetscInt_FMT
                   " polynomials, and the points of data.points determine %" PetscInt_FMT
                   " of them: too few points, or all on a line, a plane or a quadric",
                   t->kernel.tail_degree, m, k);
    t->special[k] = longest.row;
    PetscCall(PetscArrayzero(q, m));
    if (longest.row >= t->start && longest.row < t->start + t->n)
      PetscCall(PetscArraycpy(q, left + GramAt(longest.row - t->start, m, 0), m));
    PetscCallMPI(MPI_Allreduce(MPI_IN_PLACE, q, (PetscMPIInt)m, MPIU_REAL, MPI_SUM, t->comm));
    for (PetscInt i = 0; i < t->n; i++) {
      PetscReal *p = left + GramAt(i, m, 0), dot = 0;

      for (PetscInt c = 0; c < m; c++) dot += p[c] * q[c];
      for (PetscInt c = 0; c < m; c++) p[c] -= dot / longest.norm * q[c];
    }
  }
  PetscCall(PetscFree2(left, q));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* D Pi into the second halves of the rows */
static PetscErrorCode Lagrange(GramTail t, const PetscReal *x)
{
  const PetscInt m = t->m, dim = t->kernel.dim;
  PetscBLASInt   size, columns, info;
  PetscReal     *p;

  PetscFunctionBegin;
  PetscCall(PetscBLASIntCast(m, &size));
  for (PetscInt k = 0; k < m; k++) {
    const PetscInt part = t->special[k] % t->b;

    Row(t, part, x + GramAt(t->special[k] / t->b, dim, 0), t->P + GramAt(k, m, 0));
    for (PetscInt c = 0; c < m; c++) t->P[GramAt(k, m, c)] *= Slope(t, part);
  }
  PetscCall(PetscArraycpy(t->LU, t->P, GramAt(m, m, 0)));
  PetscCallBLAS("LAPACKgetrf", LAPACKgetrf_(&size, &size, t->LU, &size, t->pivots, &info));
  PetscCheck(!info, t->comm, PETSC_ERR_LIB, "the special rows are singular");
  PetscCall(PetscMalloc1(GramAt(CHUNK, m, 0), &p));
  for (PetscInt i = 0; i < t->N; i += CHUNK) {
    const PetscInt n = PetscMin(CHUNK, t->N - i);

    for (PetscInt k = 0; k < n; k++) {
      const PetscInt part = (i + k) % t->b;

      Row(t, part, x + GramAt((i + k) / t->b, dim, 0), p + GramAt(k, m, 0));
      for (PetscInt c = 0; c < m; c++) p[GramAt(k, m, c)] *= Slope(t, part) * t->unit[part];
    }
    PetscCall(PetscBLASIntCast(n, &columns));
    PetscCallBLAS("LAPACKgetrs",
                  LAPACKgetrs_("N", &size, &columns, t->LU, &size, t->pivots, p, &size, &info));
    for (PetscInt k = 0; k < n; k++)
      PetscCall(PetscArraycpy(t->rows + GramAt(i + k, 2 * m, m), p + GramAt(k, m, 0), m));
  }
  PetscCall(PetscFree(p));
  for (PetscInt k = 0; k < m; k++) {
    PetscReal *Pi = t->rows + GramAt(t->special[k], 2 * m, m);

    PetscCall(PetscArrayzero(Pi, m));
    Pi[k] = t->unit[t->special[k] % t->b];
  }
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* D h into the first halves: k(x, S) - Pi (K_SS + ridge) / 2 */
static PetscErrorCode Representers(GramTail t)
{
  const PetscInt  m = t->m, ld = 2 * m;
  const PetscReal minus_half = -0.5, one = 1;
  PetscBLASInt    size, stride, columns;
  PetscReal      *K, *k;
  PetscInt        index[CHUNK];

  PetscFunctionBegin;
  PetscCall(PetscBLASIntCast(m, &size));
  PetscCall(PetscBLASIntCast(ld, &stride));
  PetscCall(PetscMalloc2(GramAt(m, m, 0), &K, GramAt(m, CHUNK, 0), &k));
  PetscCall(GramMatGetEntries(t->A, m, t->special, m, t->special, K, m)); /* ridge included */
  for (PetscInt i = 0; i < t->N; i += CHUNK) {
    const PetscInt n = PetscMin(CHUNK, t->N - i);

    for (PetscInt r = 0; r < n; r++) index[r] = i + r;
    PetscCall(GramMatGetKernelEntries(t->A, n, index, m, t->special, k, n));
    for (PetscInt r = 0; r < n; r++) {
      for (PetscInt c = 0; c < m; c++)
        t->rows[GramAt(i + r, ld, c)] = k[GramAt(c, n, r)] / t->unit[t->special[c] % t->b];
    }
    PetscCall(PetscBLASIntCast(n, &columns));
    PetscCallBLAS("BLASgemm",
                  BLASgemm_("T", "N", &size, &columns, &size, &minus_half, K, &size,
                            t->rows + GramAt(i, ld, m), &stride, &one, t->rows + GramAt(i, ld, 0), &stride));
  }
  t->identity = PetscSqr(t->kernel.amplitude);
  PetscCall(PetscFree2(K, k));
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramTailCreate(Mat A, GramTail *tail)
{
  GramTail   t;
  GramPoints points;
  PetscReal *x;
  PetscInt   end, n_points;

  PetscFunctionBegin;
  PetscCall(PetscNew(&t));
  t->A = A;
  PetscCall(PetscObjectGetComm((PetscObject)A, &t->comm));
  PetscCall(GramMatGetKernel(A, &t->kernel));
  PetscCall(GramMatGetPoints(A, &points));
  PetscCall(GramMatGetBlock(A, &t->b, t->unit, t->ridge));
  for (PetscInt p = 0; p < t->b; p++) t->ridge[p] /= PetscSqr(t->unit[p]);
  PetscCall(MatGetSize(A, &t->N, NULL));
  PetscCall(MatGetOwnershipRange(A, &t->start, &end));
  t->n = end - t->start;
  t->m = GramPolynomialSize(t->kernel.tail_degree, t->kernel.dim);
  PetscCheck(t->m > 0, t->comm, PETSC_ERR_ARG_WRONG, "the kernel has no tail");
  PetscCall(PetscMalloc5(t->m, &t->special, GramAt(t->N, 2 * t->m, 0), &t->rows, GramAt(t->m, t->m, 0), &t->P,
                         GramAt(t->m, t->m, 0), &t->LU, t->m, &t->pivots));
  PetscCall(PetscCalloc1(t->N, &t->is));
  PetscCall(GramPointsGetSizes(points, NULL, NULL, &n_points, NULL, NULL));
  PetscCall(GramPointsAllGather(points, NULL, &x));
  Box(t, n_points, x);
  PetscCall(Choose(t, x));
  for (PetscInt k = 0; k < t->m; k++) t->is[t->special[k]] = PETSC_TRUE;
  PetscCall(Lagrange(t, x));
  PetscCall(Representers(t));
  PetscCall(PetscFree(x));
  *tail = t;
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramTailDestroy(GramTail *tail)
{
  PetscFunctionBegin;
  if (!*tail) PetscFunctionReturn(PETSC_SUCCESS);
  PetscCall(PetscFree5((*tail)->special, (*tail)->rows, (*tail)->P, (*tail)->LU, (*tail)->pivots));
  PetscCall(PetscFree((*tail)->is));
  PetscCall(PetscFree(*tail));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* ---- Z and Z' */

/* sums [m][q] += Pi' x over all rows, S included or not */
static PetscErrorCode Moments(GramTail t, PetscInt q, const PetscReal *x, PetscInt ldx, PetscBool rest,
                              PetscReal *sums)
{
  PetscMPIInt count;

  PetscFunctionBegin;
  PetscCall(PetscMPIIntCast(t->m * q, &count));
  PetscCall(PetscArrayzero(sums, count));
  for (PetscInt i = 0; i < t->n; i++) {
    const PetscInt   row = t->start + i;
    const PetscReal *Pi = t->rows + GramAt(row, 2 * t->m, t->m), unit = t->unit[row % t->b];

    if (rest && t->is[row]) continue;
    for (PetscInt c = 0; c < q; c++) {
      const PetscReal xi = x[GramAt(c, ldx, i)] / unit;

      for (PetscInt k = 0; k < t->m; k++) sums[GramAt(c, t->m, k)] += xi * Pi[k];
    }
  }
  PetscCallMPI(MPI_Allreduce(MPI_IN_PLACE, sums, count, MPIU_REAL, MPI_SUM, t->comm));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* [q][m] the rows S of x, on all ranks */
static PetscErrorCode AtSpecial(GramTail t, PetscInt q, const PetscReal *x, PetscInt ldx, PetscReal *values)
{
  PetscMPIInt count;

  PetscFunctionBegin;
  PetscCall(PetscMPIIntCast(t->m * q, &count));
  PetscCall(PetscArrayzero(values, count));
  for (PetscInt k = 0; k < t->m; k++) {
    const PetscInt i = t->special[k] - t->start;

    if (i < 0 || i >= t->n) continue;
    for (PetscInt c = 0; c < q; c++) values[GramAt(c, t->m, k)] = x[GramAt(c, ldx, i)];
  }
  PetscCallMPI(MPI_Allreduce(MPI_IN_PLACE, values, count, MPIU_REAL, MPI_SUM, t->comm));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* x -= Pi values, which leaves 0 in S */
static void Subtract(GramTail t, PetscInt q, const PetscReal *values, PetscReal *x, PetscInt ldx)
{
  for (PetscInt i = 0; i < t->n; i++) {
    const PetscInt   row = t->start + i;
    const PetscReal *Pi = t->rows + GramAt(row, 2 * t->m, t->m), unit = t->unit[row % t->b];

    for (PetscInt c = 0; c < q; c++) {
      PetscReal sum = 0;

      for (PetscInt k = 0; k < t->m; k++) sum += Pi[k] * values[GramAt(c, t->m, k)];
      x[GramAt(c, ldx, i)] = t->is[row] ? 0 : x[GramAt(c, ldx, i)] - sum / unit;
    }
  }
}

/* Z' in place */
static PetscErrorCode Project(GramTail t, PetscInt q, PetscReal *y, PetscInt ldy)
{
  PetscReal *values;

  PetscFunctionBegin;
  PetscCall(PetscMalloc1(GramAt(t->m, q, 0), &values));
  PetscCall(AtSpecial(t, q, y, ldy, values));
  Subtract(t, q, values, y, ldy);
  PetscCall(PetscFree(values));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* Z in place */
static PetscErrorCode Expand(GramTail t, PetscInt q, PetscReal *x, PetscInt ldx)
{
  PetscReal *sums;

  PetscFunctionBegin;
  PetscCall(PetscMalloc1(GramAt(t->m, q, 0), &sums));
  PetscCall(Moments(t, q, x, ldx, PETSC_TRUE, sums));
  for (PetscInt k = 0; k < t->m; k++) {
    const PetscInt i = t->special[k] - t->start;

    if (i < 0 || i >= t->n) continue;
    for (PetscInt c = 0; c < q; c++) x[GramAt(c, ldx, i)] = -sums[GramAt(c, t->m, k)];
  }
  PetscCall(PetscFree(sums));
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode OnPanel(GramTail t, Mat Y,
                              PetscErrorCode (*f)(GramTail, PetscInt, PetscReal *, PetscInt))
{
  PetscInt   q, ld;
  PetscReal *y;

  PetscFunctionBegin;
  PetscCall(MatGetSize(Y, NULL, &q));
  PetscCall(MatDenseGetLDA(Y, &ld));
  PetscCall(MatDenseGetArray(Y, &y));
  PetscCall((*f)(t, q, y, ld));
  PetscCall(MatDenseRestoreArray(Y, &y));
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramTailGetSpecial(GramTail t, PetscInt *m, const PetscInt **rows)
{
  PetscFunctionBegin;
  *m    = t->m;
  *rows = t->special;
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode ZeroSpecial(GramTail t, PetscInt q, PetscReal *y, PetscInt ldy)
{
  PetscFunctionBegin;
  for (PetscInt k = 0; k < t->m; k++) {
    const PetscInt i = t->special[k] - t->start;

    for (PetscInt c = 0; c < q && i >= 0 && i < t->n; c++) y[GramAt(c, ldy, i)] = 0;
  }
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramTailZeroSpecial(GramTail t, Mat Y)
{
  PetscFunctionBegin;
  PetscCall(OnPanel(t, Y, ZeroSpecial));
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramTailProject(GramTail t, Mat Y)
{
  PetscFunctionBegin;
  PetscCall(OnPanel(t, Y, Project));
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramTailExpand(GramTail t, Mat X)
{
  PetscFunctionBegin;
  PetscCall(OnPanel(t, X, Expand));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* ---- targets */

/* Pi [q][m] at targets */
static PetscErrorCode LagrangeAt(GramTail t, PetscInt q, const PetscReal x[], PetscReal *Pi)
{
  PetscBLASInt size, columns, info;

  PetscFunctionBegin;
  PetscCall(PetscBLASIntCast(t->m, &size));
  PetscCall(PetscBLASIntCast(q, &columns));
  for (PetscInt c = 0; c < q; c++) Row(t, 0, x + GramAt(c, t->kernel.dim, 0), Pi + GramAt(c, t->m, 0));
  PetscCallBLAS("LAPACKgetrs", LAPACKgetrs_("N", &size, &columns, t->LU, &size, t->pivots, Pi, &size, &info));
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramTailTargets(GramTail t, const PetscReal x[], Mat G, PetscReal prior[], PetscReal size[])
{
  const PetscInt m = t->m;
  PetscInt       q, ld;
  PetscReal     *K, *Pi, *h, *g;

  PetscFunctionBegin;
  PetscCall(MatGetSize(G, NULL, &q));
  PetscCall(MatDenseGetLDA(G, &ld));
  PetscCall(PetscMalloc3(GramAt(m, m, 0), &K, GramAt(q, m, 0), &Pi, GramAt(q, m, 0), &h));
  PetscCall(GramMatGetEntries(t->A, m, t->special, m, t->special, K, m)); /* ridge included */
  PetscCall(LagrangeAt(t, q, x, Pi));
  PetscCall(MatDenseGetArray(G, &g));
  PetscCall(AtSpecial(t, q, g, ld, h));
  for (PetscInt c = 0; c < q; c++) {
    PetscReal *Pi_c = Pi + GramAt(c, m, 0), *h_c = h + GramAt(c, m, 0);

    for (PetscInt k = 0; k < m; k++) {
      PetscReal AP = 0;

      for (PetscInt l = 0; l < m; l++) AP += K[GramAt(l, m, k)] * Pi_c[l];
      h_c[k] -= AP / 2;
      prior[c] -= 2 * Pi_c[k] * h_c[k];
      size[c] += 2 * PetscAbsReal(Pi_c[k]) * (PetscAbsReal(h_c[k]) + PetscAbsReal(AP));
    }
    for (PetscInt i = 0; i < t->n; i++) {
      const PetscInt   row = t->start + i;
      const PetscReal *D_h = t->rows + GramAt(row, 2 * m, 0), *D_Pi = D_h + m;
      PetscReal        sum = 0;

      for (PetscInt k = 0; k < m; k++) sum += D_h[k] * Pi_c[k] + D_Pi[k] * h_c[k];
      g[GramAt(c, ld, i)] = t->is[row] ? 0 : g[GramAt(c, ld, i)] - sum / t->unit[row % t->b];
    }
  }
  PetscCall(MatDenseRestoreArray(G, &g));
  PetscCall(PetscFree3(K, Pi, h));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* ---- coefficients of the polynomial */

/* of monomials of u = (x - centre) / width, to those of x; in place */
static void PlainCoefficients(const struct _p_GramTail *t, PetscReal c[])
{
  const PetscInt dim = t->kernel.dim, degree = t->kernel.tail_degree;

  for (PetscInt i = 0, k = 1 + dim; i < dim && degree >= 2; i++) {
    for (PetscInt j = i; j < dim;
         j++, k++) { /* u_i u_j = (x_i x_j - (x_i - c_i) c_j - (x_j - c_j) c_i - c_i c_j) / (w_i w_j) */
      c[k] /= t->width[i] * t->width[j];
      c[1 + i] -= c[k] * t->centre[j] * t->width[i];
      c[1 + j] -= c[k] * t->centre[i] * t->width[j];
      c[0] -= c[k] * t->centre[i] * t->centre[j];
    }
  }
  for (PetscInt i = 0; i < dim && degree >= 1; i++) {
    c[1 + i] /= t->width[i];
    c[0] -= c[1 + i] * t->centre[i];
  }
}

PetscErrorCode GramTailSolve(GramTail t, Mat R, Mat X, PetscReal c[], PetscReal moments[])
{
  PetscInt         q, ldr, ldx;
  PetscReal       *r, *values;
  const PetscReal *x;
  PetscBLASInt     size, columns, info;

  PetscFunctionBegin;
  PetscCall(MatGetSize(R, NULL, &q));
  PetscCall(PetscBLASIntCast(t->m, &size));
  PetscCall(PetscBLASIntCast(q, &columns));
  PetscCall(PetscMalloc1(GramAt(t->m, q, 0), &values));
  PetscCall(MatDenseGetLDA(X, &ldx));
  PetscCall(MatDenseGetArrayRead(X, &x));
  PetscCall(Moments(t, q, x, ldx, PETSC_FALSE, values));
  PetscCall(MatDenseRestoreArrayRead(X, &x));
  for (PetscInt j = 0; j < q; j++) { /* P'a = P_S' Pi'a */
    moments[j] = 0;
    for (PetscInt k = 0; k < t->m; k++) {
      PetscReal sum = 0;

      for (PetscInt row = 0; row < t->m; row++)
        sum += t->P[GramAt(row, t->m, k)] * values[GramAt(j, t->m, row)];
      moments[j] = PetscSqrtReal(PetscSqr(moments[j]) + PetscSqr(sum));
    }
  }
  PetscCall(MatDenseGetLDA(R, &ldr));
  PetscCall(MatDenseGetArray(R, &r));
  PetscCall(AtSpecial(t, q, r, ldr, values));
  Subtract(t, q, values, r, ldr);
  PetscCall(MatDenseRestoreArray(R, &r));
  PetscCallBLAS("LAPACKgetrs",
                LAPACKgetrs_("T", &size, &columns, t->LU, &size, t->pivots, values, &size, &info));
  for (PetscInt j = 0; j < q; j++) {
    PlainCoefficients(t, values + GramAt(j, t->m, 0));
    for (PetscInt k = 0; k < t->m; k++) c[GramAt(k, q, j)] = values[GramAt(j, t->m, k)];
  }
  PetscCall(PetscFree(values));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* ---- B */

typedef struct {
  GramTail tail;
  Mat      A;
} Reduced;

/* y = B x, of A Z x */
static PetscErrorCode Finish(GramTail t, PetscInt q, const PetscReal *x, PetscInt ldx, PetscReal *y,
                             PetscInt ldy)
{
  PetscFunctionBegin;
  PetscCall(Project(t, q, y, ldy));
  for (PetscInt k = 0; k < t->m; k++) {
    const PetscInt i = t->special[k] - t->start;

    if (i < 0 || i >= t->n) continue;
    for (PetscInt c = 0; c < q; c++) y[GramAt(c, ldy, i)] = t->identity * x[GramAt(c, ldx, i)];
  }
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode MatMult_Reduced(Mat B, Vec x, Vec y)
{
  Reduced         *reduced;
  const PetscReal *xa;
  PetscReal       *a;
  PetscInt         n;
  Vec              z;

  PetscFunctionBegin;
  PetscCall(MatShellGetContext(B, &reduced));
  PetscCall(VecGetLocalSize(x, &n));
  PetscCall(VecDuplicate(x, &z));
  PetscCall(VecCopy(x, z));
  PetscCall(VecGetArray(z, &a));
  PetscCall(Expand(reduced->tail, 1, a, n));
  PetscCall(VecRestoreArray(z, &a));
  PetscCall(MatMult(reduced->A, z, y));
  PetscCall(VecDestroy(&z));
  PetscCall(VecGetArrayRead(x, &xa));
  PetscCall(VecGetArray(y, &a));
  PetscCall(Finish(reduced->tail, 1, xa, n, a, n));
  PetscCall(VecRestoreArray(y, &a));
  PetscCall(VecRestoreArrayRead(x, &xa));
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode MatMatMultNumeric_Reduced(Mat B, Mat X, Mat Y, void *ctx)
{
  Reduced         *reduced;
  const PetscReal *x;
  PetscReal       *y;
  PetscInt         q, ldx, ldy;
  Mat              Z, AZ;

  PetscFunctionBegin;
  (void)ctx;
  PetscCall(MatShellGetContext(B, &reduced));
  PetscCall(MatDuplicate(X, MAT_COPY_VALUES, &Z));
  PetscCall(OnPanel(reduced->tail, Z, Expand));
  PetscCall(MatMatMult(reduced->A, Z, MAT_INITIAL_MATRIX, PETSC_DEFAULT, &AZ));
  PetscCall(MatCopy(AZ, Y, SAME_NONZERO_PATTERN));
  PetscCall(MatDestroy(&AZ));
  PetscCall(MatDestroy(&Z));
  PetscCall(MatGetSize(X, NULL, &q));
  PetscCall(MatDenseGetLDA(X, &ldx));
  PetscCall(MatDenseGetLDA(Y, &ldy));
  PetscCall(MatDenseGetArrayRead(X, &x));
  PetscCall(MatDenseGetArray(Y, &y));
  PetscCall(Finish(reduced->tail, q, x, ldx, y, ldy));
  PetscCall(MatDenseRestoreArray(Y, &y));
  PetscCall(MatDenseRestoreArrayRead(X, &x));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* D kappa D */
static PetscErrorCode KernelEntries(Mat B, PetscInt n_rows, const PetscInt rows[], PetscInt n_cols,
                                    const PetscInt cols[], PetscReal *a, PetscInt lda)
{
  const PetscReal one = 1, minus = -1;
  Reduced        *reduced;
  GramTail        t;
  PetscReal      *u, *v;
  PetscBLASInt    m, n, k, ld, lda_blas;

  PetscFunctionBegin;
  PetscCall(MatShellGetContext(B, &reduced));
  t = reduced->tail;
  PetscCall(GramMatGetKernelEntries(reduced->A, n_rows, rows, n_cols, cols, a, lda));
  PetscCall(PetscMalloc2(GramAt(n_rows, 2 * t->m, 0), &u, GramAt(n_cols, 2 * t->m, 0), &v));
  for (PetscInt i = 0; i < n_rows; i++)
    PetscCall(PetscArraycpy(u + GramAt(i, 2 * t->m, 0), t->rows + GramAt(rows[i], 2 * t->m, 0), 2 * t->m));
  for (PetscInt j = 0; j < n_cols; j++)
    PetscCall(PetscArraycpy(v + GramAt(j, 2 * t->m, 0), t->rows + GramAt(cols[j], 2 * t->m, 0), 2 * t->m));
  PetscCall(PetscBLASIntCast(n_rows, &m));
  PetscCall(PetscBLASIntCast(n_cols, &n));
  PetscCall(PetscBLASIntCast(t->m, &k));
  PetscCall(PetscBLASIntCast(2 * t->m, &ld));
  PetscCall(PetscBLASIntCast(lda, &lda_blas));
  PetscCallBLAS("BLASgemm",
                BLASgemm_("T", "N", &m, &n, &k, &minus, u, &ld, v + t->m, &ld, &one, a, &lda_blas));
  PetscCallBLAS("BLASgemm",
                BLASgemm_("T", "N", &m, &n, &k, &minus, u + t->m, &ld, v, &ld, &one, a, &lda_blas));
  for (PetscInt j = 0; j < n_cols; j++) {
    for (PetscInt i = 0; i < n_rows; i++) {
      if (t->is[rows[i]] || t->is[cols[j]]) a[GramAt(j, lda, i)] = 0;
    }
  }
  PetscCall(PetscFree2(u, v));
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode KernelDiagonal(Mat B, PetscInt first, PetscInt n, PetscReal d[])
{
  Reduced *reduced;
  GramTail t;

  PetscFunctionBegin;
  PetscCall(MatShellGetContext(B, &reduced));
  t = reduced->tail;
  PetscCall(GramMatGetKernelDiagonal(reduced->A, first, n, d));
  for (PetscInt i = 0; i < n; i++) {
    const PetscReal *h = t->rows + GramAt(first + i, 2 * t->m, 0);

    for (PetscInt k = 0; k < t->m; k++) d[i] -= 2 * h[k] * h[t->m + k];
    d[i] = t->is[first + i] ? 0 : PetscMax(d[i], 0);
  }
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* B itself */
static PetscErrorCode Entries(Mat B, PetscInt n_rows, const PetscInt rows[], PetscInt n_cols,
                              const PetscInt cols[], PetscReal *a, PetscInt lda)
{
  Reduced *reduced;
  GramTail t;

  PetscFunctionBegin;
  PetscCall(MatShellGetContext(B, &reduced));
  t = reduced->tail;
  PetscCall(KernelEntries(B, n_rows, rows, n_cols, cols, a, lda));
  for (PetscInt j = 0; j < n_cols; j++) {
    for (PetscInt i = 0; i < n_rows; i++) {
      a[GramAt(j, lda, i)] /= t->unit[rows[i] % t->b] * t->unit[cols[j] % t->b];
      if (rows[i] == cols[j]) a[GramAt(j, lda, i)] += t->is[rows[i]] ? t->identity : t->ridge[rows[i] % t->b];
    }
  }
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode MatGetDiagonal_Reduced(Mat B, Vec d)
{
  Reduced   *reduced;
  GramTail   t;
  PetscReal *di;

  PetscFunctionBegin;
  PetscCall(MatShellGetContext(B, &reduced));
  t = reduced->tail;
  PetscCall(VecGetArrayWrite(d, &di));
  PetscCall(KernelDiagonal(B, t->start, t->n, di));
  for (PetscInt i = 0; i < t->n; i++) {
    const PetscInt part = (t->start + i) % t->b;

    di[i] = t->is[t->start + i] ? t->identity : di[i] / PetscSqr(t->unit[part]) + t->ridge[part];
  }
  PetscCall(VecRestoreArrayWrite(d, &di));
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode MatDestroy_Reduced(Mat B)
{
  Reduced *reduced;

  PetscFunctionBegin;
  PetscCall(MatShellGetContext(B, &reduced));
  PetscCall(PetscFree(reduced));
  PetscCall(PetscObjectComposeFunction((PetscObject)B, GRAM_MAT_ENTRIES, NULL));
  PetscCall(PetscObjectComposeFunction((PetscObject)B, GRAM_MAT_KERNEL_ENTRIES, NULL));
  PetscCall(PetscObjectComposeFunction((PetscObject)B, GRAM_MAT_KERNEL_DIAGONAL, NULL));
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramTailReduce(GramTail t, Mat A, Mat *B)
{
  Reduced *reduced;

  PetscFunctionBegin;
  PetscCall(PetscNew(&reduced));
  reduced->tail = t;
  reduced->A    = A;
  PetscCall(MatCreateShell(t->comm, t->n, t->n, t->N, t->N, reduced, B));
  PetscCall(MatShellSetOperation(*B, MATOP_MULT, (void (*)(void))MatMult_Reduced));
  PetscCall(MatShellSetOperation(*B, MATOP_MULT_TRANSPOSE, (void (*)(void))MatMult_Reduced));
  PetscCall(MatShellSetOperation(*B, MATOP_GET_DIAGONAL, (void (*)(void))MatGetDiagonal_Reduced));
  PetscCall(MatShellSetOperation(*B, MATOP_DESTROY, (void (*)(void))MatDestroy_Reduced));
  PetscCall(MatShellSetMatProductOperation(*B, MATPRODUCT_AB, NULL, MatMatMultNumeric_Reduced, NULL, MATDENSE,
                                           MATDENSE));
  PetscCall(PetscObjectCompose((PetscObject)*B, GRAM_MAT_INNER, (PetscObject)A));
  PetscCall(PetscObjectComposeFunction((PetscObject)*B, GRAM_MAT_ENTRIES, Entries));
  PetscCall(PetscObjectComposeFunction((PetscObject)*B, GRAM_MAT_KERNEL_ENTRIES, KernelEntries));
  PetscCall(PetscObjectComposeFunction((PetscObject)*B, GRAM_MAT_KERNEL_DIAGONAL, KernelDiagonal));
  PetscCall(MatSetOption(*B, MAT_SYMMETRIC, PETSC_TRUE));
  PetscCall(MatSetOption(*B, MAT_SPD, PETSC_TRUE));
  PetscCall(PetscObjectSetName((PetscObject)*B, "GramReduced"));
  PetscFunctionReturn(PETSC_SUCCESS);
}
