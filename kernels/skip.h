/* Which tiles of a product are too small to matter, with a proof: bounding boxes and the sums of |v| in them. */
#pragma once

#include "kernel.h"

#define GRAM_SKIP_PARTS 64 /* of a block, at most */

/*
  Block I of rows and block J of columns lie in boxes; d(I, J) and D(I, J) are the least and the largest
  distance between points of the two, V_J the sum of |v_j| over block J. For a decreasing phi every row i of
  block I has

      sum_j phi(x_i, z_j) |v_j|  >=  S_I = sum_J phi(D(I, J)) V_J,

  and the columns of block J add at most phi(d(I, J)) V_J to it. A tile is skipped when, for each column of
  the panel,

      phi(d(I, J)) V_J  <=  (t / nb) S_I,      nb blocks of columns,

  so that all skipped tiles together change no row by more than t sum_j phi(x_i, z_j) |v_j|, of the exact K. A
  tile used for both must satisfy it both ways. Coordinates, distances, phi and sums are rounded to the safe
  side by more than they can be off.

  A block may be wider than the kernel is long, and D(I, I) then says little: where rows are columns, the
  block itself enters S_I by its parts, stretches of the curve about a length scale wide, with the least of
  their rows' sums. Rows that are not columns, the targets of predictions, have no parts: their blocks must be
  narrow for much to be skipped.

  A compact phi is 0 from its support on: tiles whose d(I, J), rounded as above, reaches it are skipped whatever the
  tolerance, at 0 too, and in double change no bit of the sums.

  Nothing is skipped for profiles that grow (order > 0), nor in columns with an infinity or a NaN.
*/
typedef struct _p_GramSkip *GramSkip;

/**
  GramSkipCreate - Bound the blocks of rows and columns.

  Not collective.

  @param[in]  kernel copied
  @param[in]  n_cols, cols, z  blocks of columns: block j holds the points cols[j] ... cols[j + 1] - 1 of z, which
                               are [..][dim] and divided by the length scale
  @param[in]  n_rows, rows, x  blocks of rows, likewise; x NULL: the blocks of columns again
  @param[in]  begin, end       with x NULL: the blocks of this rank
  @param[in]  parts            cut those into parts; without, a block is one, and less is skipped
  @param[out] skip             free with GramSkipDestroy()

  Memory: 2 dim numbers a block, with parts up to 64 times that for the blocks of this rank. Nothing is
  borrowed.
**/
PetscErrorCode GramSkipCreate(const GramKernel *kernel, PetscInt n_cols, const PetscInt *cols,
                              const PetscReal *z, PetscInt n_rows, const PetscInt *rows, const PetscReal *x,
                              PetscInt begin, PetscInt end, PetscBool parts, GramSkip *skip);
PetscErrorCode GramSkipDestroy(GramSkip *skip);

/**
  GramSkipBegin - Sums of a product's right-hand sides, so that GramSkipTile() can answer.

  Collective on comm.

  @param[in]     tolerance t >= 0; at 0 GramSkipTile() knows of compact profiles alone, and nothing is communicated
  @param[in]     first     [size + 1] first block of columns of each rank
  @param[in]     q, v      [n_local][q], the rows of this rank's blocks of columns
  @param[in,out] bytes     what this rank receives is added

  Cost: nb^2 / size + 64^2 nb / size profile evaluations a rank at most, and two allgathers of nb q numbers
  (one where rows are not columns).
**/
PetscErrorCode GramSkipBegin(GramSkip skip, MPI_Comm comm, PetscReal tolerance, const PetscInt *first,
                             PetscInt q, const PetscReal *v, PetscLogDouble *bytes);

/* Is the tile of row block i and column block j negligible; with both, its transpose too? Not collective. */
PetscBool GramSkipTile(GramSkip skip, PetscInt i, PetscInt j, PetscBool both);
