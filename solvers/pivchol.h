/* Pivoted partial Cholesky: K ~ F F', F of few columns, from as many columns of K; pivots are random or greedy. */
#pragma once

#include <petscmat.h>

typedef struct _p_GramPivChol *GramPivChol;

/* How a row becomes a pivot: see GramPivCholCreate() and GramPivCholSetRule() */
typedef enum { GRAM_PIVOT_RANDOM, GRAM_PIVOT_LARGEST, GRAM_PIVOT_MEAN } GramPivotRule;

/**
  GramPivCholCreate - Begin a factor of K = A without its ridge, in the units of GramMatGetBlock(); it has no columns yet.

  Collective on A.

  @param[in]  A from GramMatCreate() or made of one, known to be SPD; referenced
  @param[out] p free with GramPivCholDestroy()

  Unless GramPivCholSetRule() says otherwise, pivots are drawn with probability d_i / sum d, where d is the diagonal of
  the residual K - F F', in rounds: 64 candidates drawn independently, then each accepted with the probability that its d
  has left after those accepted before it. That is the law of drawing one after another, at the speed of products of
  matrices. Nothing needs to be known of the geometry. Every residual is positive semidefinite up to rounding, which is
  below 1e-14 k(x, x) an entry when K is exhausted.

  Random numbers come by counter, and pivots, F and d have the same bits on any number of ranks (all on the same kind of
  processor with the same BLAS): rows are computed in chunks cut at multiples of 256 of the curve, so a rank also
  computes up to 255 rows of each neighbour's, and d is summed in integers.

  Memory: 8 (n_local + 510) (r + 63) bytes, r the largest rank asked for; 64 (r + 64) numbers while a round lasts.

  Source: E. Epperly, J. Tropp, R. Webber, Embrace rejection: kernel matrix approximation by accelerated randomly
  pivoted Cholesky, arXiv 2410.03969.

  Errors: PETSC_ERR_ARG_WRONG for a Mat that is not marked SPD: profiles that are conditionally positive definite.
**/
PetscErrorCode GramPivCholCreate(Mat A, GramPivChol *p);
PetscErrorCode GramPivCholDestroy(GramPivChol *p);

/**
  GramPivCholSetRule - Choose pivots by another rule; before the first column.

  Collective.

  @param[in] rule  random; or one after another the row i of the largest gain, over rows with d_i > 1e-14 k(x, x):
                   largest  d_i, the squared power function: P-greedy nodes
                   mean     z_i^2 / d_i, z the kernel mean of the residual, z - F F_S^-1 z_S: sequential Bayesian
                            quadrature, the node that leaves the least worst-case error with optimal weights
  @param[in] label [n_local] decides between gains within 1e-9 of the largest: the lowest, such as the input row, is
                   taken; NULL: the place on the curve. Rows of equal labels go by that too.
  @param[in] z     [n_local] kernel mean at the rows of A, in the units of k, rule mean only

  label and z are laid out as A and copied; neither counts for the random rule. Columns of greedy rules are appended one
  at a time and have the same bits on any number of ranks, as the random rule's.

  Memory: 16 n_local bytes more.

  Sources: S. De Marchi, R. Schaback, H. Wendland, Near-optimal data-independent point locations for radial basis
  function interpolation, Adv. Comput. Math. 23 (2005) 317-330; F. Huszar, D. Duvenaud, Optimally-weighted herding is
  Bayesian quadrature, UAI 2012; columns of F as a Newton basis: S. Mueller, R. Schaback, J. Approx. Theory 161 (2009).

  Errors: PETSC_ERR_ARG_WRONGSTATE when there are columns.
**/
PetscErrorCode GramPivCholSetRule(GramPivChol p, GramPivotRule rule, const PetscInt label[],
                                  const PetscReal z[]);

/**
  GramPivCholGrow - Append columns until there are rank of them, or the trace of the residual is at most tolerance, or
  no d_i is above 1e-14 k(x, x), where pivots would be rounding.

  Collective. Look at GramPivCholGetFactor() for the rank reached; a lower one than there is changes nothing.

  Growing in steps gives the bits of growing at once, and tolerance is looked at between rounds only: what a round
  accepted beyond rank is kept for the next call. The trace leaves out d_i <= 1e-14 k(x, x), which nothing can reduce.
  Of a greedy rule tolerance is of the gain: growing ends where the largest one is below it.

  Cost of going from rank s to r: N (r^2 - s^2) / 2 multiply-adds and N (r - s) profile evaluations over all ranks, 64 r
  numbers to every rank and five collectives a round; a round accepts most of its 64 unless d is concentrated on
  fewer points than that. Greedy rules take as many operations, but F is read from memory for every column: 4 n_local
  (r^2 - s^2) bytes a rank, and five collectives a column.
**/
PetscErrorCode GramPivCholGrow(GramPivChol p, PetscInt rank, PetscReal tolerance);

/* Memory for rank columns, of which the operating system hands out what is reached: growing up to there then copies
   nothing. Collective. */
PetscErrorCode GramPivCholReserve(GramPivChol p, PetscInt rank);

/* F, column-major [n_local][r] with leading dimension ldf, rows laid out as A; owned by p and good until it grows. Any
   output may be NULL. Not collective. */
PetscErrorCode GramPivCholGetFactor(GramPivChol p, PetscInt *r, const PetscReal **F, PetscInt *ldf);

/* The numerical rank of K, where Grow() has met it: columns until no d_i was above 1e-14 k(x, x); -1 before. Not
   collective. */
PetscErrorCode GramPivCholGetNumericalRank(GramPivChol p, PetscInt *rank);

/* pivots [r]: rows of A on the curve, the same on all ranks, owned by p; least: the smallest F[pivot of j][j]^2, 0 when
   r = 0. Any output may be NULL. Not collective. */
PetscErrorCode GramPivCholGetPivots(GramPivChol p, const PetscInt **pivots, PetscReal *least);

/* reductions [r]: what each column took off the squared worst-case error with optimal weights, I - sum of those so far,
   I the double integral of k; owned by p. That difference is good to about eps k (sum |w|)^2, w the optimal weights: what
   rounding of K makes of it. Rule mean only. Not collective. */
PetscErrorCode GramPivCholGetReductions(GramPivChol p, const PetscReal **reductions);

/* d [n_local], the diagonal of K - F F': never negative, 0 at pivots; owned by p. Not collective. */
PetscErrorCode GramPivCholGetResidual(GramPivChol p, const PetscReal **d);

/**
  GramPivCholEstimate - Estimate lambda_max(K - F_r F_r'), F_r the first r columns, from 64 rows of it.

  Collective.

  @param[in]  r      0 .. the rank reached
  @param[out] lambda min(largest sum of magnitudes of a row, sqrt(N / 64) sigma_max of the rows); the same on all ranks

  An estimate, not a bound: a residual concentrated on points that the sample misses has a larger one. Seen: 0.5 to
  2.4 times the truth. The rows are the same for every r; sums depend on ranks in their last bits.

  Cost: 64 N (r + 33) multiply-adds and 64 N profile evaluations over all ranks.
**/
PetscErrorCode GramPivCholEstimate(GramPivChol p, PetscInt r, PetscReal *lambda);
