/* Points spread over ranks along a space-filling curve, so that rows near in memory are near in space. */
#pragma once

#include "gram.h"

/* N points of dim coordinates. Every rank owns a contiguous range of the curve; ranges differ by at most one
   point (one block of points where they are asked to be whole), and ranks may own none. */
typedef struct _p_GramPoints *GramPoints;

/**
  GramPointsCreate - Sort points along a Hilbert curve and spread them evenly over the ranks.

  Collective on comm.

  @param[in]  comm    all ranks
  @param[in]  dim     coordinates per point, 1 .. GRAM_MAX_DIM
  @param[in]  n_local points this rank hands in, >= 0; their input order is by rank, then by row
  @param[in]  x       [n_local][dim], finite; copied
  @param[in]  scale   [dim] lengths that make coordinates comparable (the kernel's length_scale), or NULL for 1
  @param[in]  block   ranks own whole blocks of this many points, cut at its multiples; 1: as even as can be
  @param[out] points  free with GramPointsDestroy()

  The order depends on coordinates and input order only, never on the number of ranks: the curve's cell first
  (up to 62 bits over the 8 widest coordinates), then the coordinates, then the input row.

  Cost: O(n log n / size) and two all-to-all exchanges. Memory: 2 (dim + 2) n / size doubles.
  Source: J. Skilling, Programming the Hilbert curve, AIP Conf. Proc. 707 (2004) 381-387.
**/
PetscErrorCode GramPointsCreate(MPI_Comm comm, PetscInt dim, PetscInt n_local, const PetscReal *x,
                                const PetscReal *scale, PetscInt block, GramPoints *points);
PetscErrorCode GramPointsDestroy(GramPoints *points);

/* Not collective; any of the outputs may be NULL. n_local and start describe this rank's range of the curve. */
PetscErrorCode GramPointsGetSizes(GramPoints points, MPI_Comm *comm, PetscInt *dim, PetscInt *n,
                                  PetscInt *n_local, PetscInt *start);

/* Not collective. x [n_local][dim] in curve order, owned by points. */
PetscErrorCode GramPointsGetArrayRead(GramPoints points, const PetscReal **x);

/**
  GramPointsToCurve, GramPointsToInput - Move rows of q numbers between input order and curve order.

  Collective. Row-major: input [n_input][q] as handed to GramPointsCreate(), curve [n_local][q].
**/
PetscErrorCode GramPointsToCurve(GramPoints points, PetscInt q, const PetscReal *input, PetscReal *curve);
PetscErrorCode GramPointsToInput(GramPoints points, PetscInt q, const PetscReal *curve, PetscReal *input);

/**
  GramPointsAllGather - Every point on every rank, in curve order, divided by scale.

  Collective.

  @param[in]  scale [dim], or NULL for 1
  @param[out] x     [n][dim], free with PetscFree()
**/
PetscErrorCode GramPointsAllGather(GramPoints points, const PetscReal *scale, PetscReal **x);

/**
  GramPointsGetBlocks - Cut the curve into blocks of about block_size points that never straddle ranks.

  Not collective (every rank computes the same table). All ranks get the same even number of blocks, of at most
  block_size points (ranks of fewer points than that a block a point): a schedule that counts blocks is balanced. Where
  ranks own whole blocks of a multiple of block_size points, blocks begin at the multiples of block_size instead: the
  same table at any number of ranks.

  @param[out] n_blocks blocks in all, >= 1 when n > 0
  @param[out] offsets  [n_blocks + 1] first point of each block; free with PetscFree()
  @param[out] first    [size + 1] first block of each rank; free with PetscFree()
**/
PetscErrorCode GramPointsGetBlocks(GramPoints points, PetscInt block_size, PetscInt *n_blocks,
                                   PetscInt **offsets, PetscInt **first);

/**
  GramPointsFindDuplicate - Two input rows with equal coordinates, or -1, -1.

  Collective. The lower row comes first; of several pairs the one first on the curve is returned.
**/
PetscErrorCode GramPointsFindDuplicate(GramPoints points, PetscInt pair[2]);
