/* The mean of a kernel over a probability measure: what nodes and weights of a quadrature rule are made from. */
#pragma once

#include "backend.h"
#include "kernel.h"
#include "points.h"

/* z(x) = int k(x, y) dmu(y), its gradient, and I = int int k(x, y) dmu(x) dmu(y), without ridge. */
typedef struct _p_GramMean *GramMean;

/**
  GramMeanCreateBox - mu is uniform on the box lower ... upper, density 1 / volume.

  Collective on comm.

  @param[in]  kernel       k; copied
  @param[in]  lower, upper [dim], lower < upper; copied
  @param[out] mean         free with GramMeanDestroy()

  Of a Gaussian z and I are products over the coordinates, with p = 1 / (sqrt(2) length_scale) and the width L

      sqrt(pi) / (2 p L) (erf(p (x - lower)) + erf(p (upper - x))),    (exp(-q^2) - 1 + sqrt(pi) q erf(q)) / q^2,  q = p L

  Of other profiles they are sums of these, since the profiles are mixtures of Gaussians:

      matern              phi = 1 / Gamma(nu) int t^(nu - 1) e^-t exp(-nu r^2 / (2 t)) dt,   exponential: nu = 1/2
      rational_quadratic  phi = 1 / Gamma(b) int t^(b - 1) e^-t exp(-t r^2 / (2 b)) dt,      inverse_multiquadric: b = 1/2

  The trapezoid rule in d = log(t / nu) (log(t / b)) needs g = exp(-+d) / 2 and weights in proportion to
  exp(nu (1 + d - e^d)). The integrand is analytic for |Im d| < pi/2, so that the rule's error is
  |Gamma(a + i y) / Gamma(a)| ~ e^(-pi y / 2), y = 2 pi / step, a = nu + dim / 2 at most (narrow Gaussians have means
  ~ t^(dim / 2)): step and range are chosen to leave the rounding error, at 40 to 300 Gaussians whatever dim is.

  Source: the mixtures, C. Rasmussen, C. Williams, Gaussian Processes for Machine Learning (2006), eq. 4.18 to 4.20; the rule,
  L. Trefethen, J. Weideman, SIAM Review 56 (2014) 385-458.

  Errors: GRAM_ERR_INPUT for a compact profile, and for one that is positive definite on polynomials' complement only.
**/
PetscErrorCode GramMeanCreateBox(MPI_Comm comm, const GramKernel *kernel, const PetscReal lower[],
                                 const PetscReal upper[], GramMean *mean);

/**
  GramMeanCreateSamples - mu = sum_s w_s delta(y - y_s).

  Collective on comm, that of samples.

  @param[in]  kernel  k; copied
  @param[in]  backend evaluates the tiles, in its precision; borrowed
  @param[in]  samples M rows of dim coordinates; borrowed, so destroy them after the mean
  @param[in]  weights [n_local] on the curve, >= 0, divided by their sum here; NULL: equal
  @param[out] mean    free with GramMeanDestroy()

  z = K(X, S) w and I = w'K(S, S) w are products; this one costs that of I.

  Errors: GRAM_ERR_INPUT for weights that are negative, not finite, or sum to 0, and for profiles of order > 0.
**/
PetscErrorCode GramMeanCreateSamples(MPI_Comm comm, const GramKernel *kernel, GramBackend backend,
                                     GramPoints samples, const PetscReal weights[], GramMean *mean);
PetscErrorCode GramMeanDestroy(GramMean *mean);

/**
  GramMeanEvaluate - z(x_i) and its gradient at points.

  Collective.

  @param[out] z        [n_local] of X
  @param[out] gradient [n_local][dim], or NULL
**/
PetscErrorCode GramMeanEvaluate(GramMean mean, GramPoints X, PetscReal z[], PetscReal gradient[]);

/* The same at x [n][dim], of a box only. Not collective. */
PetscErrorCode GramMeanAt(GramMean mean, PetscInt n, const PetscReal x[], PetscReal z[],
                          PetscReal gradient[]);

/* Of samples, not of a box? Not collective. */
PetscErrorCode GramMeanIsSampled(GramMean mean, PetscBool *sampled);

/* I. Not collective. */
PetscErrorCode GramMeanGetDouble(GramMean mean, PetscReal *twice);

/* z = hi + lo at x [n][dim], of a box only, and I = hi + lo: in twice the digits where the compiler has numbers of quad precision,
   elsewhere, and I of samples, with lo = 0. Not collective. */
PetscErrorCode GramMeanAtPairs(GramMean mean, PetscInt n, const PetscReal x[], PetscReal hi[],
                               PetscReal lo[]);
PetscErrorCode GramMeanGetDoublePair(GramMean mean, PetscReal *hi, PetscReal *lo);

/**
  GramMeanGetErrors - What rounding may have done, absolute.

  Not collective.

  @param[in]  pairs of GramMeanAtPairs() and GramMeanGetDoublePair(); else of GramMeanEvaluate(), GramMeanAt(), GramMeanGetDouble()
  @param[in]  x, z  [n][dim] and [n] as evaluated
  @param[out] error [n] bound on that of z
  @param[out] twice bound on that of I; may be NULL

  Box: u (8 dim + Gaussians + 32) times z, u half a unit in the last place; outside of the box times z at its nearest point.
  Samples: u (64 + 8 |x / length_scale| + 2 sqrt(M)) times z, sums taken for a random walk of roundings.
**/
PetscErrorCode GramMeanGetErrors(GramMean mean, PetscBool pairs, PetscInt n, const PetscReal x[],
                                 const PetscReal z[], PetscReal error[], PetscReal *twice);
