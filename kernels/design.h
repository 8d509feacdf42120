/* Point sets in a box, made anywhere from the index of a point alone: low discrepancy, random, grids. */
#pragma once

#include "gram.h"

/* X(enum suffix, name): the name is an option value; what has none comes after them */
#define GRAM_DESIGN_LIST(X) \
  X(HALTON, "halton")       \
  X(SOBOL, "sobol")         \
  X(RANDOM, "random")

#define GRAM_DESIGN_ENUM(UPPER, name) GRAM_DESIGN_##UPPER,
typedef enum {
  GRAM_DESIGN_LIST(GRAM_DESIGN_ENUM) GRAM_DESIGN_NAMED,
  GRAM_DESIGN_GRID = GRAM_DESIGN_NAMED
} GramDesignKind;

/* How far the sequences go: direction numbers there are, bits of a coordinate, and 719 times an index (the 128th prime)
   below 2^53 */
#define GRAM_DESIGN_SOBOL_DIM   21
#define GRAM_DESIGN_SOBOL_LAST  ((PetscInt64)1 << 52)
#define GRAM_DESIGN_HALTON_LAST ((PetscInt64)1 << 43) /* 1 + seed + index is below */

/*
  Point number i = 0, 1, ... is lower + u (upper - lower), by coordinates, u of the unit cube:

  halton  u_k = radical inverse of 1 + seed + i in the k-th prime 2, 3, 5, 7 ..., the correctly rounded quotient of two
          integers
  sobol   u_k = bits of the Sobol sequence in the order of its Gray code, from the point 0 on. Any seed but 0 flips bits
          of every coordinate, the same ones at all points, which keeps its nets: a random digital shift.
  random  u_k = GramUniform(seed, i dim + k)
  grid    u_k = j_k / (counts_k - 1), correctly rounded, the first coordinate slowest; 1/2 where there is one. The last
          of a coordinate is upper exactly.

  A plain struct. Points never leave the box, and have the same bits on every machine.

  Sources: J. Halton, Numer. Math. 2 (1960) 84-90; S. Joe, F. Kuo, Constructing Sobol sequences with better
  two-dimensional projections, SIAM J. Sci. Comput. 30 (2008) 2635-2654, direction numbers new-joe-kuo-6; I. Antonov,
  V. Saleev, USSR Comput. Math. Math. Phys. 19 (1979) 252-256, the Gray code.
*/
typedef struct {
  GramDesignKind kind;
  PetscInt       dim; /* 1 .. GRAM_MAX_DIM, sobol: GRAM_DESIGN_SOBOL_DIM */
  PetscReal      lower[GRAM_MAX_DIM], upper[GRAM_MAX_DIM]; /* [dim] of the box */
  uint64_t       seed;                                     /* not of grids */
  PetscInt       counts[GRAM_MAX_DIM];                     /* [dim] of grids, >= 1 */
} GramDesign;

/* By option value; found = PETSC_FALSE leaves kind alone. Not collective. */
PetscErrorCode GramDesignFind(const char *name, GramDesignKind *kind, PetscBool *found);

/**
  GramDesignPoints - Make the points first .. first + n - 1 of a design.

  Not collective: ranks make the points they own, and any split makes the same ones.

  @param[in]  first >= 0
  @param[in]  n     >= 0
  @param[out] x     [n][dim]

  Cost: O(n dim) digits or bits of an index.

  Errors: PETSC_ERR_ARG_OUTOFRANGE for a dim or an index beyond the limits above, or past the end of a grid.
**/
PetscErrorCode GramDesignPoints(const GramDesign *design, PetscInt64 first, PetscInt n, PetscReal *x);
