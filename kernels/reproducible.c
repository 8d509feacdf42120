/* The folds of sums, and the operations of a Vec that sum or that BLAS would round by place. */
#include <float.h>

#include <petsc/private/vecimpl.h>

#include "reproducible.h"

/* (T + p) - T and p - q must be what they say: the build adds -ffp-contract=off to this file */
#if defined(__FAST_MATH__) || (defined(FLT_EVAL_METHOD) && FLT_EVAL_METHOD != 0)
  #error "exact sums need arithmetic that is neither reassociated nor kept in wider registers"
#endif

#define LANES 8 /* sums side by side: no addition waits for the one before it */

/* 1.5 * 2^e with 2^e >= 4 bound; not below the normal numbers, where every double is a multiple of T's last place */
static PetscReal FoldOf(PetscReal bound)
{
  int e;

  if (!(bound <= 0x1p1019)) return INFINITY;
  (void)frexp(bound, &e); /* bound < 2^e */
  return ldexp(1.5, PetscMax(bound > 0 ? e + 2 : -1022, -1022));
}

void GramFoldsBegin(PetscReal n, PetscReal bound, PetscReal t[GRAM_FOLDS])
{
  t[0] = FoldOf(bound);
  t[1] = FoldOf(n * (t[0] * (DBL_EPSILON / 3))); /* n terms r, |r| <= u / 2 */
}

static inline void Fold(PetscReal p, const PetscReal t[GRAM_FOLDS], PetscReal *fold0, PetscReal *fold1)
{
  const PetscReal q = (t[0] + p) - t[0], r = p - q;

  *fold0 += q;
  *fold1 += (t[1] + r) - t[1];
}

void GramFoldsAdd(PetscInt n, PetscInt q, const PetscReal *p, const PetscReal *t, PetscReal *folds)
{
  for (size_t i = 0; i < (size_t)n; i++) {
    for (size_t r = 0; r < (size_t)q; r++) {
      PetscReal *fold = folds + GRAM_FOLDS * (i * (size_t)q + r);

      Fold(p[i * (size_t)q + r], t + GRAM_FOLDS * r, fold, fold + 1);
    }
  }
}

static inline PetscReal Term(const PetscReal *x, const PetscReal *y, size_t i)
{
  return y ? x[i] * y[i] : x[i];
}

static PetscReal LargestTerm(size_t n, const PetscReal *x, const PetscReal *y)
{
  PetscReal largest = 0;

  for (size_t i = 0; i < n; i++) largest = GramLarger(largest, Term(x, y, i));
  return largest;
}

static void FoldTerms(size_t n, const PetscReal *x, const PetscReal *y, const PetscReal t[GRAM_FOLDS],
                      PetscReal folds[GRAM_FOLDS])
{
  PetscReal lanes[GRAM_FOLDS][LANES] = {{0}};
  size_t    i                        = 0;

  for (; i + LANES <= n; i += LANES) {
    for (size_t l = 0; l < LANES; l++) Fold(Term(x, y, i + l), t, &lanes[0][l], &lanes[1][l]);
  }
  for (; i < n; i++) Fold(Term(x, y, i), t, &lanes[0][0], &lanes[1][0]);
  for (int f = 0; f < GRAM_FOLDS; f++) {
    folds[f] = 0;
    for (int l = 0; l < LANES; l++) folds[f] += lanes[f][l];
  }
}

PetscErrorCode GramExactDots(MPI_Comm comm, PetscInt n_local, PetscInt n, const PetscReal *x, PetscInt count,
                             const PetscReal *const y[], PetscReal z[])
{
  PetscReal *largest, *folds; /* [count], [count][GRAM_FOLDS] */

  PetscFunctionBegin;
  PetscCall(PetscMalloc2(count, &largest, GRAM_FOLDS * count, &folds));
  for (PetscInt k = 0; k < count; k++) largest[k] = LargestTerm((size_t)n_local, x, y[k]);
  PetscCallMPI(MPI_Allreduce(MPI_IN_PLACE, largest, (PetscMPIInt)count, MPIU_REAL, MPI_MAX, comm));
  for (PetscInt k = 0; k < count; k++) {
    PetscReal t[GRAM_FOLDS];

    GramFoldsBegin((PetscReal)n, (PetscReal)n * largest[k], t);
    FoldTerms((size_t)n_local, x, y[k], t, folds + GramAt(k, GRAM_FOLDS, 0));
  }
  PetscCallMPI(
      MPI_Allreduce(MPI_IN_PLACE, folds, (PetscMPIInt)(GRAM_FOLDS * count), MPIU_REAL, MPI_SUM, comm));
  for (PetscInt k = 0; k < count; k++) /* an infinite T says nothing on a rank without rows */
    z[k] =
        PetscIsInfReal(largest[k]) ? NAN : folds[GramAt(k, GRAM_FOLDS, 0)] + folds[GramAt(k, GRAM_FOLDS, 1)];
  PetscCall(PetscFree2(largest, folds));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* the operations of a Vec */

static PetscErrorCode VecMDot_Exact(Vec x, PetscInt count, const Vec y[], PetscScalar *z)
{
  PetscInt          n_local, n;
  const PetscReal  *xa;
  const PetscReal **ya;

  PetscFunctionBegin;
  PetscCall(VecGetLocalSize(x, &n_local));
  PetscCall(VecGetSize(x, &n));
  PetscCall(PetscMalloc1(count, &ya));
  PetscCall(VecGetArrayRead(x, &xa));
  for (PetscInt k = 0; k < count; k++) PetscCall(VecGetArrayRead(y[k], ya + k));
  PetscCall(GramExactDots(PetscObjectComm((PetscObject)x), n_local, n, xa, count, ya, z));
  for (PetscInt k = 0; k < count; k++) PetscCall(VecRestoreArrayRead(y[k], ya + k));
  PetscCall(VecRestoreArrayRead(x, &xa));
  PetscCall(PetscFree(ya));
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode VecDot_Exact(Vec x, Vec y, PetscScalar *z)
{
  PetscFunctionBegin;
  PetscCall(VecMDot_Exact(x, 1, &y, z));
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode VecDotNorm2_Exact(Vec x, Vec y, PetscScalar *dot, PetscScalar *square)
{
  const Vec   both[2] = {x, y};
  PetscScalar z[2];

  PetscFunctionBegin;
  PetscCall(VecMDot_Exact(y, 2, both, z));
  *dot    = z[0];
  *square = z[1];
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* max |x_i| depends on no order */
static PetscErrorCode Largest(Vec x, PetscReal *largest)
{
  PetscInt         n_local;
  const PetscReal *xa;

  PetscFunctionBegin;
  PetscCall(VecGetLocalSize(x, &n_local));
  PetscCall(VecGetArrayRead(x, &xa));
  *largest = LargestTerm((size_t)n_local, xa, NULL);
  PetscCall(VecRestoreArrayRead(x, &xa));
  PetscCallMPI(MPI_Allreduce(MPI_IN_PLACE, largest, 1, MPIU_REAL, MPI_MAX, PetscObjectComm((PetscObject)x)));
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode AbsoluteSum(Vec x, PetscReal *sum)
{
  PetscInt         n_local, n;
  PetscReal       *absolute;
  const PetscReal *xa, *none = NULL;

  PetscFunctionBegin;
  PetscCall(VecGetLocalSize(x, &n_local));
  PetscCall(VecGetSize(x, &n));
  PetscCall(PetscMalloc1(n_local, &absolute));
  PetscCall(VecGetArrayRead(x, &xa));
  for (PetscInt i = 0; i < n_local; i++) absolute[i] = PetscAbsReal(xa[i]);
  PetscCall(VecRestoreArrayRead(x, &xa));
  PetscCall(GramExactDots(PetscObjectComm((PetscObject)x), n_local, n, absolute, 1, &none, sum));
  PetscCall(PetscFree(absolute));
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode VecNorm_Exact(Vec x, NormType type, PetscReal *norm)
{
  PetscReal square;

  PetscFunctionBegin;
  if (type == NORM_INFINITY) PetscCall(Largest(x, norm));
  if (type == NORM_1 || type == NORM_1_AND_2) PetscCall(AbsoluteSum(x, norm));
  if (type == NORM_2 || type == NORM_FROBENIUS || type == NORM_1_AND_2) {
    PetscCall(VecDot_Exact(x, x, &square));
    norm[type == NORM_1_AND_2] = PetscSqrtReal(square);
  }
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode VecMAXPY_Exact(Vec y, PetscInt count, const PetscScalar *a, Vec *x)
{
  PetscInt   n;
  PetscReal *ya;

  PetscFunctionBegin;
  PetscCall(VecGetLocalSize(y, &n));
  PetscCall(VecGetArray(y, &ya));
  for (PetscInt k = 0; k < count; k++) {
    const PetscReal *xa;

    PetscCall(VecGetArrayRead(x[k], &xa));
    for (PetscInt i = 0; i < n; i++) ya[i] += a[k] * xa[i];
    PetscCall(VecRestoreArrayRead(x[k], &xa));
  }
  PetscCall(VecRestoreArray(y, &ya));
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode VecAXPY_Exact(Vec y, PetscScalar a, Vec x)
{
  PetscFunctionBegin;
  PetscCall(VecMAXPY_Exact(y, 1, &a, &x));
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode VecAXPBY_Exact(Vec y, PetscScalar a, PetscScalar b, Vec x)
{
  PetscInt         n;
  const PetscReal *xa;
  PetscReal       *ya;

  PetscFunctionBegin;
  PetscCall(VecGetLocalSize(y, &n));
  PetscCall(VecGetArrayRead(x, &xa));
  PetscCall(VecGetArray(y, &ya));
  for (PetscInt i = 0; i < n; i++) ya[i] = b == 0 ? a * xa[i] : a * xa[i] + b * ya[i];
  PetscCall(VecRestoreArray(y, &ya));
  PetscCall(VecRestoreArrayRead(x, &xa));
  PetscFunctionReturn(PETSC_SUCCESS);
}

#define REFUSED \
  "product.reproducible: split sums (pipelined Krylov methods) depend on the ranks; take -ksp_type cg"

static PetscErrorCode VecDotLocal_Exact(Vec x, Vec y, PetscScalar *z)
{
  PetscFunctionBegin;
  (void)y;
  (void)z;
  SETERRQ(PetscObjectComm((PetscObject)x), PETSC_ERR_SUP, REFUSED);
}

static PetscErrorCode VecMDotLocal_Exact(Vec x, PetscInt count, const Vec y[], PetscScalar *z)
{
  PetscFunctionBegin;
  (void)count;
  (void)y;
  (void)z;
  SETERRQ(PetscObjectComm((PetscObject)x), PETSC_ERR_SUP, REFUSED);
}

static PetscErrorCode VecNormLocal_Exact(Vec x, NormType type, PetscReal *norm)
{
  PetscFunctionBegin;
  (void)type;
  (void)norm;
  SETERRQ(PetscObjectComm((PetscObject)x), PETSC_ERR_SUP, REFUSED);
}

/* PETSc's own duplicates of a "seq" vector start from fresh operations */
static PetscErrorCode VecDuplicate_Exact(Vec x, Vec *y)
{
  PetscFunctionBegin;
  PetscCall(GramVecCreateExact(PetscObjectComm((PetscObject)x), x->map, ((PetscObject)x)->type_name, y));
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode VecDuplicateVecs_Exact(Vec x, PetscInt count, Vec **y)
{
  PetscFunctionBegin;
  PetscCall(PetscMalloc1(count, y));
  for (PetscInt k = 0; k < count; k++) PetscCall(VecDuplicate(x, *y + k));
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramVecSetExact(Vec x)
{
  PetscFunctionBegin;
  x->ops->dot           = VecDot_Exact;
  x->ops->tdot          = VecDot_Exact;
  x->ops->mdot          = VecMDot_Exact;
  x->ops->mtdot         = VecMDot_Exact;
  x->ops->dotnorm2      = VecDotNorm2_Exact;
  x->ops->norm          = VecNorm_Exact;
  x->ops->axpy          = VecAXPY_Exact;
  x->ops->axpby         = VecAXPBY_Exact;
  x->ops->maxpy         = VecMAXPY_Exact;
  x->ops->dot_local     = VecDotLocal_Exact;
  x->ops->tdot_local    = VecDotLocal_Exact;
  x->ops->mdot_local    = VecMDotLocal_Exact;
  x->ops->mtdot_local   = VecMDotLocal_Exact;
  x->ops->norm_local    = VecNormLocal_Exact;
  x->ops->duplicate     = VecDuplicate_Exact;
  x->ops->duplicatevecs = VecDuplicateVecs_Exact;
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramVecCreateExact(MPI_Comm comm, PetscLayout layout, VecType type, Vec *x)
{
  PetscFunctionBegin;
  PetscCall(VecCreate(comm, x));
  PetscCall(VecSetLayout(*x, layout));
  PetscCall(VecSetType(*x, type));
  PetscCall(GramVecSetExact(*x));
  PetscFunctionReturn(PETSC_SUCCESS);
}
