#include <math.h>
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
#define ROUGH_DIM      3 /* coordinates up to which Matern kernels start with half the rank */
#define NEIGHBORS      30
#define NEIGHBORS_MOST 120
#define FAR_DIM        7 /* coordinates from which neighbours are far, and columns do more */
#define FAR_NEIGHBORS  10
#define JOINT_NUMBERS  45    /* of neighbours with gradients */
#define OPTION_MOST    40000 /* r^2 has to be a number of MPI and BLAS */
#define PIVOT_SHARE    1e-5  /* of the least pivot, at pivots */
#define TWICE_FROM     2e7   /* kappa^2 from which Cholesky QR needs a second pass: sqrt(0.1 / u) */
#define SHIFT_FROM     1e13  /* and from which a third */
#define ITS_LOCAL      10    /* taken to be needed with neighbours */
#define ITS_SHARE      0.65  /* of the bound that are needed without: seen */
#define ITS_TO         1e-8  /* the residual to which iterations are predicted */
#define NEGLIGIBLE     1e-9  /* of alpha: nothing more to gain */
#define CHEAP          0.1   /* of a product */
#define ROUND_LEAVES   32    /* columns that a round of pivchol.h accepts beyond the rank asked for, about */

typedef struct {
  PetscInt         rank, neighbors; /* asked for, -1: chosen here */
  PetscInt         cap_r, cap_m;    /* of the automatic choice with neighbours; doubled when it grows */
  PetscBool        full;            /* memory has cut cap_r */
  PetscBool        grown, insist;   /* that was too slow; and with m = 0 */
  PetscBool        stays;           /* more would not fit */
  PetscInt         r, m;
  Mat              A; /* the operator of chol */
  GramKernel       kernel;
  GramPrecision    precision;
  PetscInt         N, n, b;                              /* rows of all ranks, of this one, of a point */
  PetscReal        unit;                                 /* mean k(x, x) */
  PetscReal        ridge[1 + GRAM_MAX_DIM], least_ridge; /* [b] of A, in its units */
  GramPivChol      chol;
  GramVecchia      vecchia;
  Mat              G; /* NULL: I / sqrt(alpha) */
  const PetscReal *W; /* [n][r] by columns of ldw; F itself, or owned */
  PetscInt         ldw;
  PetscReal        scale; /* of W */
  PetscReal       *owned; /* [n][r] */
  PetscReal       *T;     /* [r][r], C = T' T, NULL: the columns of W stand for W T^-1 */
  PetscReal       *t;     /* [q][r] */
  PetscInt         q;
  Vec              y;
  Mat              Y; /* [n][q] */
  PetscReal        alpha, logdet, error;
  PetscLogDouble   seconds, bytes;
} LRV;

static PetscErrorCode FactorsReset(LRV *lrv)
{
  PetscFunctionBegin;
  PetscCall(MatDestroy(&lrv->G));
  PetscCall(MatDestroy(&lrv->Y));
  PetscCall(VecDestroy(&lrv->y));
  PetscCall(PetscFree(lrv->owned));
  PetscCall(PetscFree(lrv->T));
  PetscCall(PetscFree(lrv->t));
  lrv->q = 0;
  if (lrv->A) GramMemoryTrim();
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
   save; in many coordinates it is the other way round. */
static PetscInt FirstRank(const GramKernel *kernel, PetscInt n)
{
  const PetscInt  twonu = GramRadialGetInfo(kernel->radial)->twonu;
  const PetscBool rough = (PetscBool)(0 < twonu && kernel->dim <= ROUGH_DIM);
  const PetscReal share = kernel->gradients || kernel->dim >= FAR_DIM ? 8 : rough ? 2 : 4;

  return PetscMax(RANK_LEAST, PetscMin(RANK_MOST, (PetscInt)(share * PetscSqrtReal((PetscReal)n))));
}

static PetscInt FirstNeighbors(const GramKernel *kernel)
{
  if (kernel->gradients) return PetscMax(1, JOINT_NUMBERS / GramKernelNumbers(kernel));
  return kernel->dim >= FAR_DIM ? FAR_NEIGHBORS : NEIGHBORS;
}

/* Rows of F of other ranks that are neighbours here. A rank has a cube of side 1 / p of the unit cube; among the first j
   points of the coarse-to-fine order, j in steps of half an octave, neighbours are up to radius away, beyond the sides
   that are not those of the unit cube. */
static PetscLogDouble HaloRows(PetscInt N, PetscMPIInt ranks, PetscInt dim, PetscInt m)
{
  const PetscReal d = (PetscReal)dim, side = PetscPowReal(ranks, -1 / d), own = 1. / ranks,
                  ball = PetscPowReal(PETSC_PI, d / 2) / tgamma(d / 2 + 1), step = PETSC_SQRT2;
  PetscLogDouble rows = 0;

  for (PetscReal j = N; j >= 1; j /= step) {
    const PetscReal radius = PetscPowReal((PetscReal)m / (j * ball), 1 / d),
                    reach  = PetscMin(1, side + 2 * radius * (1 - side));

    rows += (PetscPowReal(reach, d) - own) * j * (1 - 1 / step);
  }
  return rows;
}

/* At the peak of a set-up, of this rank: F, with half a round of columns that were accepted beyond r; W; G and neighbours;
   then rows of F of other ranks and of the cache, or C and, on the rank that factors, V. */
static PetscErrorCode Bytes(MPI_Comm comm, const GramKernel *kernel, PetscInt N, PetscInt columns, PetscInt m,
                            PetscLogDouble *bytes)
{
  const PetscInt       b = GramKernelNumbers(kernel);
  const PetscLogDouble r = columns, row = 8 * (r + 1);
  PetscLogDouble       n, making        = 0;
  PetscMPIInt          rank, ranks;
  PetscBool            owned; /* W: with neighbours, or by the number of passes of LowRank() */

  PetscFunctionBegin;
  PetscCallMPI(MPI_Comm_rank(comm, &rank));
  PetscCallMPI(MPI_Comm_size(comm, &ranks));
  n      = (PetscLogDouble)N / ranks;
  owned  = (PetscBool)(m || b > 1 || N * PetscSqr(kernel->amplitude) > TWICE_FROM * kernel->alpha);
  *bytes = 8 * n * (r + (columns ? ROUND_LEAVES : 0) + (owned ? r : 0));
  if (m || b > 1) {
    *bytes += n * (12.0 * (m + 1) * b + 4.0 * m / b) + 8.0 * N / b;
    making = row * b * HaloRows(N / b, ranks, kernel->dim, m) + PetscMin(GRAM_VECCHIA_CACHE, row * n);
  }
  *bytes += PetscMax(making, (rank ? 8 : 16) * r * r);
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* in a quarter of the memory that is free: with what there is of it already, or more than that */
static PetscErrorCode Fits(const LRV *lrv, PetscInt r, PetscInt m, PetscBool *fits, PetscLogDouble *need,
                           PetscLogDouble *have)
{
  MPI_Comm comm = PetscObjectComm((PetscObject)lrv->A);

  PetscFunctionBegin;
  PetscCall(Bytes(comm, &lrv->kernel, lrv->N, r, m, need));
  PetscCall(GramMemoryFits(comm, 4 * *need, fits, need, have));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* the cap, halved until a quarter of the memory holds it */
static PetscErrorCode Limit(LRV *lrv)
{
  PetscBool      fits = PETSC_FALSE;
  PetscLogDouble need, have;

  PetscFunctionBegin;
  while (!fits && lrv->cap_r > RANK_FIRST) {
    PetscCall(Fits(lrv, lrv->cap_r, lrv->cap_m, &fits, &need, &have));
    if (!fits) lrv->cap_r /= 2;
    if (!fits) lrv->full = PETSC_TRUE;
  }
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* Costs are multiply-adds a row: of a product that uses entries twice, in float half; of F by gemm and C by syrk, half of
   r^2 each. */
static PetscReal ProductCost(const LRV *lrv)
{
  const PetscInt pair = lrv->b > 1 ? 7 * lrv->kernel.dim + 12 : lrv->kernel.dim + 9;

  return (lrv->precision == GRAM_DOUBLE ? 0.5 : 0.25) * pair * (PetscReal)lrv->N / PetscSqr(lrv->b);
}

static PetscReal LowRankCost(PetscInt r) { return 1.3 * (PetscReal)r * (PetscReal)r; }

/* a product, and W read twice: a number takes the time of some 16 multiply-adds that run at speed */
static PetscReal IterationCost(const LRV *lrv, PetscInt r)
{
  return ProductCost(lrv) + 2 * 16 * (PetscReal)r;
}

/* Iterations of CG where the eigenvalues of M^-1 A are in [1, 1 + ratio]: with k of them the residual falls by
   T_k(1 + 2 / ratio), the bound of Chebyshev polynomials. */
static PetscReal Iterations(PetscReal ratio)
{
  const PetscReal x = 1 + 2 / PetscMax(ratio, PETSC_MACHINE_EPSILON);

  return PetscLogReal(2 / ITS_TO) / PetscLogReal(x + PetscSqrtReal(x * x - 1));
}

/* What is known of the residual at r columns: an estimate of its largest eigenvalue, or a bound of its trace where there is
   one, and as which power of r it falls. */
typedef struct {
  PetscInt  r;
  PetscReal lambda, power;
} Decay;

static PetscErrorCode DecayUpdate(LRV *lrv, PetscReal trace, Decay *d)
{
  const Decay before = *d;

  PetscFunctionBegin;
  d->r = lrv->r;
  if (trace > 0) d->lambda = trace;
  else PetscCall(GramPivCholEstimate(lrv->chol, lrv->r, &d->lambda));
  PetscCall(PetscInfo(lrv->A, "lrv: rank %" PetscInt_FMT ", largest eigenvalue left %g\n", lrv->r,
                      (double)d->lambda));
  d->power =
      before.r > 0 && 0 < d->lambda && d->lambda < before.lambda && d->r > before.r
          ? PetscLogReal(d->lambda / before.lambda) / PetscLogReal((PetscReal)d->r / (PetscReal)before.r)
          : 0;
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* multiply-adds a row that a solve takes from here on, with m = 0 and with neighbours */
static PetscReal AloneCost(const LRV *lrv, PetscInt r, PetscReal lambda)
{
  return PetscMax(1, ITS_SHARE * Iterations(lambda / lrv->alpha)) * IterationCost(lrv, r);
}

static PetscReal LocalCost(const LRV *lrv, PetscInt r)
{
  const PetscReal m = (PetscReal)lrv->cap_m * lrv->b;

  /* small matrices run at half the speed of large ones */
  return 2 * m * m * ((PetscReal)(r + lrv->kernel.dim + 9) + m) / lrv->b + ITS_LOCAL * IterationCost(lrv, r);
}

/* Are columns up to next worth it? */
static PetscErrorCode GoOn(const LRV *lrv, const Decay *d, PetscInt next, PetscBool *on)
{
  const PetscReal alone = AloneCost(lrv, d->r, d->lambda), local = LocalCost(lrv, d->r),
                  lambda = d->lambda * PetscPowReal((PetscReal)next / (PetscReal)d->r, d->power),
                  better = AloneCost(lrv, next, lambda) + LowRankCost(next) - LowRankCost(d->r);

  PetscLogDouble need, have;

  PetscFunctionBegin;
  *on = PETSC_FALSE;
  if (next == d->r || d->lambda <= NEGLIGIBLE * lrv->alpha) PetscFunctionReturn(PETSC_SUCCESS);
  if (lrv->grown) *on = (PetscBool)(d->lambda > lrv->alpha && d->r < lrv->cap_r);
  else if (alone > local && d->r < lrv->cap_r) *on = PETSC_TRUE;
  else if (better < PetscMin(alone, local)) PetscCall(Fits(lrv, next, lrv->cap_m, on, &need, &have));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* After r columns: twice as many, the cap on the way. */
static PetscInt NextRank(const LRV *lrv, PetscInt r)
{
  const PetscInt most = PetscMin(lrv->N, RANK_MOST);

  return PetscMax(r, PetscMin(2 * r, r < lrv->cap_r ? lrv->cap_r : most));
}

/* The cap, halved until its columns cost little beside a product, but more than there are: they were not enough, and
   the estimate would say so again. */
static PetscInt StartRank(const LRV *lrv)
{
  PetscInt rank = lrv->cap_r;

  while (LowRankCost(rank) > CHEAP * ProductCost(lrv) && rank / 2 >= PetscMax(RANK_FIRST, lrv->r + 1))
    rank = (rank + 1) / 2;
  return rank;
}

/* r and m, and the columns */
static PetscErrorCode Choose(LRV *lrv)
{
  Decay     d    = {0};
  PetscInt  rank = lrv->rank >= 0 ? lrv->rank : StartRank(lrv), reached, exhausted;
  PetscBool on   = PETSC_TRUE;

  PetscFunctionBegin;
  PetscCall(GramPivCholReserve(lrv->chol, PetscMax(rank, PetscMin(2 * lrv->cap_r, RANK_MOST))));
  while (on) {
    const PetscBool cheap = (PetscBool)(LowRankCost(rank) <= CHEAP * ProductCost(lrv));
    const PetscReal trace = lrv->rank >= 0 ? 0 : (cheap ? NEGLIGIBLE : 0.01) * lrv->alpha;

    PetscCall(GramPivCholGrow(lrv->chol, rank, trace));
    PetscCall(GramPivCholGetFactor(lrv->chol, &reached, NULL, NULL));
    PetscCall(GramPivCholGetNumericalRank(lrv->chol, &exhausted));
    if (exhausted >= 0) lrv->alpha = PetscMax(lrv->alpha, GRAM_LRV_ALPHA_LEAST * lrv->N * lrv->unit);
    lrv->r = PetscMin(rank, reached);
    PetscCall(DecayUpdate(lrv, lrv->r < rank && exhausted < 0 ? trace : 0, &d));
    if (lrv->rank >= 0 || lrv->r < rank) break;
    rank = NextRank(lrv, lrv->r);
    PetscCall(GoOn(lrv, &d, rank, &on));
  }
  if (lrv->neighbors >= 0) lrv->m = lrv->neighbors;
  else if (lrv->insist) lrv->m = lrv->cap_m;
  else if (d.lambda <= lrv->alpha) lrv->m = 0;
  else if (lrv->grown) lrv->m = lrv->cap_m;
  else lrv->m = AloneCost(lrv, lrv->r, d.lambda) <= LocalCost(lrv, lrv->r) ? 0 : lrv->cap_m;
  lrv->m     = PetscMin(lrv->m, lrv->N / lrv->b - 1);
  lrv->error = lrv->m ? PETSC_INFINITY : (d.lambda + lrv->alpha - lrv->least_ridge) / lrv->alpha;
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* G and W = G F: the sparse factor of the residual, or its diagonal */
static PetscErrorCode Local(LRV *lrv)
{
  const PetscReal *F;
  const PetscInt  *pivots;
  PetscReal       *delta, least;
  PetscInt         ldf, start, end;

  PetscFunctionBegin;
  PetscCall(GramPivCholGetFactor(lrv->chol, NULL, &F, &ldf));
  lrv->logdet = (PetscReal)lrv->N * PetscLogReal(lrv->alpha);
  lrv->W      = F;
  lrv->ldw    = ldf;
  lrv->scale  = 1 / PetscSqrtReal(lrv->alpha);
  if (!lrv->vecchia) PetscFunctionReturn(PETSC_SUCCESS);
  PetscCall(MatGetOwnershipRange(lrv->A, &start, &end));
  PetscCall(GramPivCholGetPivots(lrv->chol, &pivots, &least));
  PetscCall(PetscMalloc1(lrv->n, &delta));
  PetscCall(PetscMalloc1(GramAt(lrv->r, lrv->n, 0), &lrv->owned));
  for (PetscInt i = 0; i < lrv->n; i++) delta[i] = PetscMax(lrv->alpha, lrv->ridge[i % lrv->b]);
  for (PetscInt j = 0; j < lrv->r; j++) {
    if (pivots[j] >= start && pivots[j] < end)
      delta[pivots[j] - start] = PetscMax(delta[pivots[j] - start], PIVOT_SHARE * least);
  }
  PetscCall(GramVecchiaFactor(lrv->vecchia, lrv->A, lrv->r, F, ldf, delta, &lrv->G, lrv->owned, &lrv->logdet,
                              NULL));
  PetscCall(PetscFree(delta));
  lrv->W     = lrv->owned;
  lrv->ldw   = PetscMax(lrv->n, 1);
  lrv->scale = 1;
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* V [r][n] = scale W */
static PetscErrorCode ScaledCopy(const LRV *lrv, PetscReal **V)
{
  PetscFunctionBegin;
  PetscCall(PetscMalloc1(GramAt(lrv->r, lrv->n, 0), V));
  for (PetscInt j = 0; j < lrv->r; j++) {
    for (PetscInt i = 0; i < lrv->n; i++)
      (*V)[GramAt(j, lrv->n, i)] = lrv->scale * lrv->W[GramAt(j, lrv->ldw, i)];
  }
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* W where it may be written, with its scale in it */
static PetscErrorCode Own(LRV *lrv)
{
  PetscFunctionBegin;
  if (lrv->owned) PetscFunctionReturn(PETSC_SUCCESS);
  PetscCall(ScaledCopy(lrv, &lrv->owned));
  lrv->W     = lrv->owned;
  lrv->ldw   = PetscMax(lrv->n, 1);
  lrv->scale = 1;
  PetscFunctionReturn(PETSC_SUCCESS);
}

/*
  C = I + W' W = T' T, and its share of log det.

  kappa, the condition of [W; I], is bounded by kappa^2 <= 1 + trace(W' W). Where that leaves a tenth of the eigenvalues of
  I - W C^-1 W', 1 / kappa^2 at least, T is kept. Else [W; I] = [U; V] T with orthonormal columns by Cholesky QR, and U,
  written over W, stands for W T^-1: twice; or three times, the first shifted so that it cannot fail, where a factor of C
  might not exist in floating point. T. Fukaya et al., Shifted Cholesky QR for computing the QR factorization of
  ill-conditioned matrices, SIAM J. Sci. Comput. 42 (2020) A477-A503. One rank factors for all.
*/
static PetscErrorCode LowRank(LRV *lrv)
{
  MPI_Comm          comm = PetscObjectComm((PetscObject)lrv->A);
  const PetscScalar one = 1, zero = 0;
  const size_t      square = (size_t)lrv->r * (size_t)lrv->r;
  PetscBLASInt      n, r, ld, info = 0;
  PetscMPIInt       rank, count;
  PetscInt          status[2] = {1, 0}; /* passes, and the column where one fails */
  PetscReal        *C, *V = NULL, trace;

  PetscFunctionBegin;
  if (lrv->r == 0) PetscFunctionReturn(PETSC_SUCCESS);
  PetscCall(PetscBLASIntCast(lrv->n, &n));
  PetscCall(PetscBLASIntCast(lrv->r, &r));
  PetscCall(PetscMPIIntCast((PetscInt)square, &count));
  PetscCallMPI(MPI_Comm_rank(comm, &rank));
  PetscCall(PetscMalloc1(square, &C));
  if (!rank) PetscCall(PetscCalloc1(square, &V));
  for (PetscInt j = 0; j < r && !rank; j++) V[GramAt(j, r, j)] = 1;
  for (PetscInt pass = 0; pass < status[0]; pass++) {
    PetscReal squared;

    if (pass) PetscCall(Own(lrv));
    squared = lrv->scale * lrv->scale;
    PetscCall(PetscBLASIntCast(lrv->ldw, &ld));
    if (pass) { /* [U; V] times the inverse of the last factor */
      if (n) PetscCallBLAS("BLAStrsm", BLAStrsm_("R", "U", "N", "N", &n, &r, &one, C, &r, lrv->owned, &ld));
      if (!rank) PetscCallBLAS("BLAStrsm", BLAStrsm_("R", "U", "N", "N", &r, &r, &one, C, &r, V, &r));
    }
    PetscCall(PetscArrayzero(C, square)); /* C = W' W + V' V */
    if (!rank) PetscCallBLAS("BLASsyrk", BLASsyrk_("U", "T", &r, &r, &one, V, &r, &zero, C, &r));
    if (n) PetscCallBLAS("BLASsyrk", BLASsyrk_("U", "T", &r, &n, &squared, lrv->W, &ld, &one, C, &r));
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
              11 * ((PetscReal)lrv->N * r + (PetscReal)r * (r + 1)) * PETSC_MACHINE_EPSILON / 2 * trace;
      }
      PetscCallBLAS("LAPACKpotrf", LAPACKpotrf_("U", &r, C, &r, &info));
      status[1] = info;
    }
    PetscCallMPI(MPI_Bcast(status, 2, MPIU_INT, 0, comm));
    PetscCheck(!status[1], comm, PETSC_ERR_LIB,
               "lrv: Cholesky fails in column %" PetscInt_FMT " of pass %" PetscInt_FMT, status[1], pass);
    PetscCallMPI(MPI_Bcast(C, count, MPIU_REAL, 0, comm));
    for (PetscInt j = 0; j < r; j++) lrv->logdet += 2 * PetscLogReal(C[GramAt(j, r, j)]);
  }
  PetscCall(PetscFree(V));
  GramMemoryTrim();
  if (status[0] == 1) {
    lrv->T = C;
    PetscFunctionReturn(PETSC_SUCCESS);
  }
  if (n) PetscCallBLAS("BLAStrsm", BLAStrsm_("R", "U", "N", "N", &n, &r, &one, C, &r, lrv->owned, &ld));
  PetscCall(PetscFree(C));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* the mean k(x, x), and the ridges */
static PetscErrorCode Diagonal(LRV *lrv)
{
  PetscInt   start, end;
  PetscReal *d, sum = 0;

  PetscFunctionBegin;
  PetscCall(MatGetOwnershipRange(lrv->A, &start, &end));
  PetscCall(PetscMalloc1(lrv->n, &d));
  PetscCall(GramMatGetKernelDiagonal(lrv->A, start, lrv->n, d));
  for (PetscInt i = 0; i < lrv->n; i++) sum += d[i];
  PetscCall(PetscFree(d));
  PetscCallMPI(MPI_Allreduce(&sum, &lrv->unit, 1, MPIU_REAL, MPI_SUM, PetscObjectComm((PetscObject)lrv->A)));
  lrv->unit /= (PetscReal)lrv->N;
  PetscCall(GramMatGetBlock(lrv->A, &lrv->b, NULL, lrv->ridge));
  lrv->least_ridge = lrv->ridge[0];
  for (PetscInt p = 1; p < lrv->b; p++) lrv->least_ridge = PetscMin(lrv->least_ridge, lrv->ridge[p]);
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode PCSetUp_LRV(PC pc)
{
  LRV       *lrv = (LRV *)pc->data;
  GramPoints points;

  PetscFunctionBegin;
  PetscCall(PetscTimeSubtract(&lrv->seconds));
  if (lrv->A != pc->pmat) {
    PetscCall(PCReset_LRV(pc));
    PetscCall(PetscObjectReference((PetscObject)pc->pmat));
    lrv->A = pc->pmat;
    PetscCall(GramPivCholCreate(lrv->A, &lrv->chol));
  }
  PetscCall(FactorsReset(lrv));
  PetscCall(GramMatGetKernel(lrv->A, &lrv->kernel));
  PetscCall(GramMatGetPrecision(lrv->A, &lrv->precision));
  PetscCall(GramMatGetPoints(lrv->A, &points));
  PetscCall(MatGetSize(lrv->A, &lrv->N, NULL));
  PetscCall(MatGetLocalSize(lrv->A, &lrv->n, NULL));
  PetscCall(Diagonal(lrv));
  lrv->alpha = PetscMax(lrv->least_ridge, GRAM_LRV_ALPHA_LEAST * lrv->unit);
  if (!lrv->cap_r) {
    lrv->cap_r = FirstRank(&lrv->kernel, lrv->N);
    lrv->cap_m = FirstNeighbors(&lrv->kernel);
  }
  lrv->cap_r = PetscMin(lrv->cap_r, lrv->N);
  PetscCall(Limit(lrv));
  PetscCall(Choose(lrv));
  PetscCall(Bytes(PetscObjectComm((PetscObject)lrv->A), &lrv->kernel, lrv->N, lrv->r, lrv->m, &lrv->bytes));
  if (lrv->m > 0 || lrv->b > 1) { /* the numbers of a point are neighbours too */
    if (!lrv->vecchia) PetscCall(GramVecchiaCreate(points, lrv->kernel.length_scale, &lrv->vecchia));
    PetscCall(GramVecchiaSetNeighbours(lrv->vecchia, lrv->m));
  } else PetscCall(GramVecchiaDestroy(&lrv->vecchia));
  PetscCall(Local(lrv));
  PetscCall(LowRank(lrv));
  PetscCall(MatCreateVecs(lrv->A, &lrv->y, NULL));
  PetscCall(PetscTimeAdd(&lrv->seconds));
  PetscCall(PetscInfo(pc, "lrv: rank %" PetscInt_FMT ", %" PetscInt_FMT " neighbours, %g s\n", lrv->r, lrv->m,
                      (double)lrv->seconds));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* y = G v */
static PetscErrorCode Sparse(const LRV *lrv, Vec v, Vec y)
{
  PetscFunctionBegin;
  if (lrv->G) PetscCall(MatMult(lrv->G, v, y));
  else PetscCall(VecAXPBY(y, 1 / PetscSqrtReal(lrv->alpha), 0, v));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* z = G' y */
static PetscErrorCode SparseTranspose(const LRV *lrv, Vec y, Vec z)
{
  PetscFunctionBegin;
  if (lrv->G) PetscCall(MatMultTranspose(lrv->G, y, z));
  else PetscCall(VecAXPBY(z, 1 / PetscSqrtReal(lrv->alpha), 0, y));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* y -= W C^-1 W' y for q columns y [q][ldy] */
static PetscErrorCode Deflate(LRV *lrv, PetscInt q, PetscScalar *y, PetscInt ldy)
{
  const PetscScalar one = 1, zero = 0, scale = lrv->scale, minus = -lrv->scale;
  PetscBLASInt      n, r, ldw, ld, columns, unit = 1, info;
  PetscMPIInt       count;

  PetscFunctionBegin;
  if (!lrv->r) PetscFunctionReturn(PETSC_SUCCESS);
  if (q > lrv->q) {
    PetscCall(PetscFree(lrv->t));
    PetscCall(PetscMalloc1(GramAt(q, lrv->r, 0), &lrv->t));
    lrv->q = q;
  }
  PetscCall(PetscBLASIntCast(lrv->n, &n));
  PetscCall(PetscBLASIntCast(lrv->r, &r));
  PetscCall(PetscBLASIntCast(lrv->ldw, &ldw));
  PetscCall(PetscBLASIntCast(ldy, &ld));
  PetscCall(PetscBLASIntCast(q, &columns));
  PetscCall(PetscMPIIntCast(q * lrv->r, &count));
  if (!n) PetscCall(PetscArrayzero(lrv->t, count));
  else if (q == 1)
    PetscCallBLAS("BLASgemv", BLASgemv_("T", &n, &r, &scale, lrv->W, &ldw, y, &unit, &zero, lrv->t, &unit));
  else
    PetscCallBLAS("BLASgemm",
                  BLASgemm_("T", "N", &r, &columns, &n, &scale, lrv->W, &ldw, y, &ld, &zero, lrv->t, &r));
  PetscCallMPI(
      MPI_Allreduce(MPI_IN_PLACE, lrv->t, count, MPIU_REAL, MPI_SUM, PetscObjectComm((PetscObject)lrv->A)));
  if (lrv->T) {
    PetscCallBLAS("LAPACKpotrs", LAPACKpotrs_("U", &r, &columns, lrv->T, &r, lrv->t, &r, &info));
    PetscCheck(!info, PETSC_COMM_SELF, PETSC_ERR_LIB, "LAPACK potrs: %d", (int)info);
  }
  if (n && q == 1)
    PetscCallBLAS("BLASgemv", BLASgemv_("N", &n, &r, &minus, lrv->W, &ldw, lrv->t, &unit, &one, y, &unit));
  else if (n)
    PetscCallBLAS("BLASgemm",
                  BLASgemm_("N", "N", &n, &columns, &r, &minus, lrv->W, &ldw, lrv->t, &r, &one, y, &ld));
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode PCApply_LRV(PC pc, Vec v, Vec z)
{
  LRV         *lrv = (LRV *)pc->data;
  PetscScalar *y;

  PetscFunctionBegin;
  PetscCall(Sparse(lrv, v, lrv->y));
  PetscCall(VecGetArray(lrv->y, &y));
  PetscCall(Deflate(lrv, 1, y, PetscMax(lrv->n, 1)));
  PetscCall(VecRestoreArray(lrv->y, &y));
  PetscCall(SparseTranspose(lrv, lrv->y, z));
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode PCMatApply_LRV(PC pc, Mat V, Mat Z)
{
  LRV         *lrv = (LRV *)pc->data;
  PetscInt     q, had = 0, ldy;
  PetscScalar *ya;
  Vec          v, y, z;

  PetscFunctionBegin;
  PetscCall(MatGetSize(V, NULL, &q));
  if (lrv->Y) PetscCall(MatGetSize(lrv->Y, NULL, &had));
  if (had != q) {
    PetscCall(MatDestroy(&lrv->Y));
    PetscCall(
        MatCreateDense(PetscObjectComm((PetscObject)V), lrv->n, PETSC_DECIDE, lrv->N, q, NULL, &lrv->Y));
  }
  for (PetscInt c = 0; c < q; c++) {
    PetscCall(MatDenseGetColumnVecRead(V, c, &v));
    PetscCall(MatDenseGetColumnVecWrite(lrv->Y, c, &y));
    PetscCall(Sparse(lrv, v, y));
    PetscCall(MatDenseRestoreColumnVecWrite(lrv->Y, c, &y));
    PetscCall(MatDenseRestoreColumnVecRead(V, c, &v));
  }
  PetscCall(MatDenseGetLDA(lrv->Y, &ldy));
  PetscCall(MatDenseGetArray(lrv->Y, &ya));
  PetscCall(Deflate(lrv, q, ya, PetscMax(ldy, 1)));
  PetscCall(MatDenseRestoreArray(lrv->Y, &ya));
  for (PetscInt c = 0; c < q; c++) {
    PetscCall(MatDenseGetColumnVecRead(lrv->Y, c, &y));
    PetscCall(MatDenseGetColumnVecWrite(Z, c, &z));
    PetscCall(SparseTranspose(lrv, y, z));
    PetscCall(MatDenseRestoreColumnVecWrite(Z, c, &z));
    PetscCall(MatDenseRestoreColumnVecRead(lrv->Y, c, &y));
  }
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

static PetscLogDouble KeptBytes(const LRV *lrv)
{
  const PetscLogDouble columns = (PetscLogDouble)lrv->r * (lrv->owned ? 2 : 1);

  return (PetscLogDouble)lrv->N *
             (8.0 * columns + (lrv->G ? 12.0 * (PetscLogDouble)(lrv->m + 1) * lrv->b : 0)) +
         (lrv->T ? 8.0 * (PetscLogDouble)lrv->r * (PetscLogDouble)lrv->r : 0);
}

static PetscErrorCode PCView_LRV(PC pc, PetscViewer viewer)
{
  const LRV *lrv = (LRV *)pc->data;
  PetscBool  ascii;

  PetscFunctionBegin;
  PetscCall(PetscObjectTypeCompare((PetscObject)viewer, PETSCVIEWERASCII, &ascii));
  if (!ascii || !lrv->A) PetscFunctionReturn(PETSC_SUCCESS);
  PetscCall(PetscViewerASCIIPrintf(
      viewer, "  rank %" PetscInt_FMT ", %" PetscInt_FMT " neighbors, %.3g MB, set up in %.3g s\n", lrv->r,
      lrv->m, 1e-6 * KeptBytes(lrv), lrv->seconds));
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
  pc->ops->matapply          = PCMatApply_LRV;
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
  PetscFunctionBegin;
  *r = lrv->cap_r;
  *m = lrv->cap_m;
  if (lrv->rank >= 0 || lrv->neighbors >= 0) PetscFunctionReturn(PETSC_SUCCESS);
  if (lrv->r >= lrv->cap_r && !lrv->full)
    *r = PetscMax(*r, PetscMin(2 * lrv->cap_r, PetscMin(lrv->N / 2, RANK_MOST)));
  if (lrv->m == lrv->cap_m && lrv->kernel.dim < FAR_DIM)
    *m = PetscMax(lrv->cap_m, PetscMin(2 * lrv->cap_m, NEIGHBORS_MOST / lrv->b));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* Where the columns have all there is of K, and alpha is lost in rounding, nothing helps. */
static PetscBool Exhausted(const LRV *lrv)
{
  return (PetscBool)(lrv->alpha > PetscMax(lrv->least_ridge, GRAM_LRV_ALPHA_LEAST * lrv->unit));
}

/* neighbours where m = 0 was chosen, and there can be some */
static PetscBool CanInsist(const LRV *lrv)
{
  return (PetscBool)(lrv->A && !lrv->m && !lrv->insist && lrv->rank < 0 && lrv->neighbors < 0 &&
                     lrv->N > lrv->b);
}

PetscErrorCode GramPCLRVCanGrow(PC pc, PetscBool *can)
{
  LRV           *lrv = (LRV *)pc->data;
  PetscInt       r, m;
  PetscLogDouble need, have;

  PetscFunctionBegin;
  PetscCall(PetscObjectTypeCompare((PetscObject)pc, "lrv", can));
  if (!*can) PetscFunctionReturn(PETSC_SUCCESS);
  PetscCall(Growth(lrv, &r, &m));
  *can = (PetscBool)(!lrv->stays && !Exhausted(lrv) &&
                     (CanInsist(lrv) || (lrv->m && (r > lrv->cap_r || m > lrv->cap_m))));
  if (!*can) PetscFunctionReturn(PETSC_SUCCESS);
  if (CanInsist(lrv)) r = lrv->r;
  PetscCall(Fits(lrv, r, m, can, &need, &have));
  lrv->stays = (PetscBool) !*can;
  if (lrv->stays)
    PetscCall(PetscFPrintf(PetscObjectComm((PetscObject)pc), stderr,
                           "gramarye: warning: pc.type lrv: rank %" PetscInt_FMT " and %" PetscInt_FMT
                           " neighbours may be faster, but take %.3g GB, more than a quarter of the %.3g GB "
                           "available: it stays at rank %" PetscInt_FMT " and %" PetscInt_FMT "\n",
                           r, m, need / 4e9, have * 1e-9, lrv->r, lrv->m));
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramPCLRVGrow(PC pc)
{
  LRV      *lrv = (LRV *)pc->data;
  PetscBool can;

  PetscFunctionBegin;
  PetscCall(GramPCLRVCanGrow(pc, &can));
  if (!can) PetscFunctionReturn(PETSC_SUCCESS);
  if (CanInsist(lrv)) lrv->insist = PETSC_TRUE;
  else PetscCall(Growth(lrv, &lrv->cap_r, &lrv->cap_m));
  lrv->grown      = PETSC_TRUE;
  pc->setupcalled = 0;
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramPCLRVGetInfo(PC pc, GramLRVInfo *info)
{
  const LRV *lrv = (LRV *)pc->data;

  PetscFunctionBegin;
  *info                = (GramLRVInfo){.rank      = lrv->r,
                                       .neighbors = lrv->m,
                                       .alpha     = lrv->alpha,
                                       .logdet    = lrv->logdet,
                                       .error     = lrv->error,
                                       .bytes     = lrv->bytes,
                                       .seconds   = lrv->seconds};
  info->numerical_rank = -1;
  if (lrv->chol) PetscCall(GramPivCholGetNumericalRank(lrv->chol, &info->numerical_rank));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* d += squares of the columns of G; MatGetColumnNorms() would keep all N on every rank */
static PetscErrorCode SparseSquares(const LRV *lrv, PetscReal d[])
{
  PetscInt         start, end;
  PetscScalar     *s;
  const PetscReal *sums;
  Vec              squares;

  PetscFunctionBegin;
  PetscCall(VecDuplicate(lrv->y, &squares));
  PetscCall(VecZeroEntries(squares));
  PetscCall(MatGetOwnershipRange(lrv->G, &start, &end));
  for (PetscInt i = start; i < end; i++) {
    PetscInt           n;
    const PetscInt    *columns;
    const PetscScalar *g;

    PetscCall(MatGetRow(lrv->G, i, &n, &columns, &g));
    PetscCall(PetscMalloc1(n, &s));
    for (PetscInt k = 0; k < n; k++) s[k] = g[k] * g[k];
    PetscCall(VecSetValues(squares, n, columns, s, ADD_VALUES));
    PetscCall(PetscFree(s));
    PetscCall(MatRestoreRow(lrv->G, i, &n, &columns, &g));
  }
  PetscCall(VecAssemblyBegin(squares));
  PetscCall(VecAssemblyEnd(squares));
  PetscCall(VecGetArrayRead(squares, &sums));
  for (PetscInt i = 0; i < lrv->n; i++) d[i] += sums[i];
  PetscCall(VecRestoreArrayRead(squares, &sums));
  PetscCall(VecDestroy(&squares));
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramPCLRVGetInverseDiagonal(PC pc, PetscReal d[])
{
  LRV              *lrv = (LRV *)pc->data;
  const PetscScalar one = 1;
  PetscBLASInt      n, r, ld;
  PetscReal        *V;
  const PetscReal  *z;
  Vec               v, gv;

  PetscFunctionBegin;
  for (PetscInt i = 0; i < lrv->n; i++) d[i] = lrv->G ? 0 : 1 / lrv->alpha;
  if (lrv->G) PetscCall(SparseSquares(lrv, d));
  if (!lrv->r) PetscFunctionReturn(PETSC_SUCCESS);
  PetscCall(PetscBLASIntCast(lrv->n, &n));
  PetscCall(PetscBLASIntCast(lrv->r, &r));
  PetscCall(PetscBLASIntCast(PetscMax(lrv->n, 1), &ld));
  PetscCall(ScaledCopy(lrv, &V));
  if (n && lrv->T) PetscCallBLAS("BLAStrsm", BLAStrsm_("R", "U", "N", "N", &n, &r, &one, lrv->T, &r, V, &ld));
  PetscCall(VecDuplicate(lrv->y, &gv));
  for (PetscInt j = 0; j < lrv->r; j++) {
    PetscCall(VecCreateMPIWithArray(PetscObjectComm((PetscObject)pc), 1, lrv->n, lrv->N,
                                    V + GramAt(j, lrv->n, 0), &v));
    PetscCall(SparseTranspose(lrv, v, gv));
    PetscCall(VecGetArrayRead(gv, &z));
    for (PetscInt i = 0; i < lrv->n; i++) d[i] -= z[i] * z[i];
    PetscCall(VecRestoreArrayRead(gv, &z));
    PetscCall(VecDestroy(&v));
  }
  PetscCall(VecDestroy(&gv));
  PetscCall(PetscFree(V));
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramPCLRVGetGrowth(PC pc, GramLRVGrowth *growth)
{
  const LRV *lrv = (LRV *)pc->data;

  PetscFunctionBegin;
  *growth = (GramLRVGrowth){lrv->cap_r, lrv->cap_m, lrv->grown, lrv->insist};
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramPCLRVSetGrowth(PC pc, const GramLRVGrowth *growth)
{
  LRV *lrv = (LRV *)pc->data;

  PetscFunctionBegin;
  lrv->cap_r  = growth->rank;
  lrv->cap_m  = growth->neighbors;
  lrv->grown  = growth->grown;
  lrv->insist = growth->insist;
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramPCLRVBytes(MPI_Comm comm, const GramKernel *kernel, PetscInt n, PetscLogDouble *bytes)
{
  const PetscInt N = n * GramKernelNumbers(kernel);
  PetscInt       r, m;
  char           rank[32] = "auto", neighbors[32] = "auto";

  PetscFunctionBegin;
  PetscCall(PetscOptionsGetString(NULL, NULL, "-pc_lrv_rank", rank, sizeof rank, NULL));
  PetscCall(PetscOptionsGetString(NULL, NULL, "-pc_lrv_neighbors", neighbors, sizeof neighbors, NULL));
  PetscCall(NumberOrAuto(comm, "pc.lrv_rank", rank, &r));
  PetscCall(NumberOrAuto(comm, "pc.lrv_neighbors", neighbors, &m));
  if (m < 0) m = FirstNeighbors(kernel);
  if (r < 0) r = FirstRank(kernel, N);
  PetscCall(Bytes(comm, kernel, N, PetscMin(r, N), PetscMin(m, n - 1), bytes));
  PetscFunctionReturn(PETSC_SUCCESS);
}
