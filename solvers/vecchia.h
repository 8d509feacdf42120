/* The sparse factor of an inverse: each point is conditioned on its nearest predecessors of a coarse-to-fine order. */
#pragma once

#include <petscmat.h>

#include "gram_mat.h"

#define GRAM_VECCHIA_CACHE \
  ((PetscLogDouble)(1 << 25)) /* bytes of rows of F that GramVecchiaFactor() holds twice, at most */

/**
  GramVoxelOrder - Coarse to fine: any first part of the order covers the points evenly.

  Not collective: every rank that has the same x gets the same order.

  @param[in]  x     [n][dim], finite
  @param[out] order [n] index of the first, second, ... point

  Level l = 0 .. 39 lays a grid of 2^l cells over the widest extent of x (the same in all coordinates). The point of
  least hash in each cell that holds none yet enters, in order of hashes; what is left (duplicates) comes last. Cells
  nest, so a point enters at the first level where it has the least hash of its cell: one descent finds all levels.

  Cost: O(n (log n + dim)), more by up to 40 dim for points that stay together that long. Memory: 24 n bytes.
**/
PetscErrorCode GramVoxelOrder(PetscInt dim, PetscInt n, const PetscReal *x, PetscInt order[]);

/* The voxel order of N points, and for this rank's points their nearest predecessors: the pattern of the factor. */
typedef struct _p_GramVecchia *GramVecchia;

/**
  GramVecchiaCreate - Order the points; they have no neighbours before GramVecchiaSetNeighbours().

  Collective on the communicator of points.

  @param[in]  points  N rows, of which this rank owns n_local; borrowed
  @param[in]  scale   [dim] lengths by which coordinates are divided (the kernel's length_scale), or NULL for 1
  @param[out] vecchia free with GramVecchiaDestroy()

  Every rank orders all points, which takes one allgather of them. Memory: 2 N integers.
**/
PetscErrorCode GramVecchiaCreate(GramPoints points, const PetscReal *scale, GramVecchia *vecchia);
PetscErrorCode GramVecchiaDestroy(GramVecchia *vecchia);

/**
  GramVecchiaSetNeighbours - The m nearest among the points before each one in the order, found exactly.

  Collective. Replaces neighbours that were found before; the order stays. A point that has fewer than m before it
  gets them all. Equal distances: the earlier point is nearer.

  Cost: O(log N + m) distances a row in few coordinates, up to N in many (some 8 and more), and one allgather of the
  points. Memory: n_local m integers, and while it runs about 3 (dim + 1) N numbers.
**/
PetscErrorCode GramVecchiaSetNeighbours(GramVecchia vecchia, PetscInt m);

/* The neighbours of this rank's row i, 0 <= i < n_local: n of them, ascending curve indices, owned by vecchia and valid
   until they are replaced; and order [N] as of GramVoxelOrder(). Not collective. */
PetscErrorCode GramVecchiaGetNeighbours(GramVecchia vecchia, PetscInt i, PetscInt *n,
                                        const PetscInt **columns);
PetscErrorCode GramVecchiaGetOrder(GramVecchia vecchia, const PetscInt **order);

/**
  GramVecchiaFactor - Sparse G with G' G ~ D S^-1 D, where S = D K D - F F' + diag(delta), D the units of
  GramMatGetBlock().

  Collective.

  @param[in]  A       of the same points, from GramMatCreate() or made of one: only entries are asked for
  @param[in]  r       columns of F, may be 0
  @param[in]  F       [n_local][r] by columns of leading dimension ldf, D K D - F F' positive semidefinite but for
                      rounding; n_local here the rows of A
  @param[in]  delta   [n_local] added to that: the ridge, and positive at landmarks even without one
  @param[out] G       MATAIJ, rows and columns laid out as A; free with MatDestroy()
  @param[out] W       [n_local][r] by columns of leading dimension n_local: G D^-1 F, or NULL
  @param[out] logdet  log det (G' G)^-1 = -2 sum_i log G_ii, the same on all ranks
  @param[out] shifted rows of all ranks whose block was not numerically positive definite, or NULL

  With J the neighbours of i and i itself, last, row i is g / sqrt(g_last), S_JJ g = e_last. Where a point has several rows,
  J has all rows of its neighbours and its own up to i, and one factor of S_JJ serves them all. In the order of the points
  G is lower triangular, and among all matrices of its pattern the one whose (G' G)^-1 is nearest to S in the
  Kullback-Leibler divergence; it is Vecchia's approximation of a Gaussian density and the factor FSAI. Each row
  depends on S_JJ alone, so that entries of G are the same at any number of ranks.

  Where a pivot of S_JJ is lost in the rounding of K (duplicates without ridge), the diagonal of S_JJ is shifted by the
  least of 1e-12, 1e-11, ... times its mean that mends it.

  Cost: n_local (m^2 r + m^3 / 3) flops and n_local m^2 entries. What travels are the rows of F that other ranks
  have as neighbours, once. Memory: 12 n_local (m + 1) bytes for G; meanwhile 4 N bytes, 8 (r + 1) for each row sent
  or received, and 32 MB.

  Sources: A. V. Vecchia, J. R. Statist. Soc. B 50 (1988) 297-312; L. Yu. Kolotilina, A. Yu. Yeremin, SIAM J. Matrix
  Anal. Appl. 14 (1993) 45-58; F. Schaefer, M. Katzfuss, H. Owhadi, SIAM J. Sci. Comput. 43 (2021) A2019-A2046.

  Errors: PETSC_ERR_FP when entries of A, F or delta are not finite.
**/
PetscErrorCode GramVecchiaFactor(GramVecchia vecchia, Mat A, PetscInt r, const PetscReal *F, PetscInt ldf,
                                 const PetscReal *delta, Mat *G, PetscReal *W, PetscReal *logdet,
                                 PetscInt *shifted);
