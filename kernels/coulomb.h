/* Forces between point charges in any number of dimensions: what moves the nodes of a quadrature apart. */
#pragma once

#include "backend.h"

#if defined(__cplusplus)
extern "C" {
#endif

/* What a point gets: the force [dim], and behind it */
enum { GRAM_COULOMB_ENERGY, GRAM_COULOMB_NEAREST, GRAM_COULOMB_EXTRA };

/* charges [n] and softening e of the sources: a smooth density in place of points; NULL: unit charges, e = 0 */
typedef struct {
  const PetscReal *charge;
  PetscReal        softening2; /* e^2 > 0 */
} GramCloud;

/**
  GramCoulomb - Forces of charges at z on points x, of the fundamental solution of the Laplace equation.

  Not collective.

      force    sum_j c_j (x_i - z_j) / s^(d/2),   s = |x_i - z_j|^2 + e^2
      energy   sum_j c_j g(s),                    g = -log(s) / 2 (d = 2), s^((2 - d)/2) / (d - 2) (d > 2)
      nearest  min_j s over s > 0; of a cloud: the density sum_j c_j d e^2 / (|S| s^(d/2 + 1)), whose integral is sum_j c_j

  so that the force is -grad of the energy and its divergence |S| times the density, |S| = 2 pi^(d/2) / Gamma(d/2). Without
  a cloud pairs with s = 0 contribute nothing: a point does not push itself.

  @param[in]  backend any; with precision double pairs are double, else float; sums over 256 charges at most are of that
                      kind, then double. A row's sums do not depend on the other rows, nor on how many there are
  @param[in]  dim     2 .. GRAM_MAX_DIM; lengths are best near 1 between neighbours: powers of dim + 2 are formed of them
  @param[in]  m, x    [m][dim]
  @param[in]  n, z    [n][dim]
  @param[in]  cloud   NULL: unit charges that are points
  @param[out] out     [m][dim + GRAM_COULOMB_EXTRA]

  Cost: m n pairs of one division (d = 2), one root (d = 3).
**/
PetscErrorCode GramCoulomb(GramBackend backend, PetscInt dim, PetscInt m, const PetscReal *x, PetscInt n,
                           const PetscReal *z, const GramCloud *cloud, PetscReal *out);

/* squared distances beyond which pairs are double whatever the precision: products of four leave the range of float */
#define GRAM_COULOMB_FAR 1e9

/* |S^(d-1)|, the area of the unit sphere in d dimensions */
PetscReal GramSphereArea(PetscInt dim);

#if defined(__cplusplus)
}
#endif
