/* From an HDF5 file to points and values: rows chosen, mapped to the sphere, standardised, checked. */
#pragma once

#include "gram.h"
#include "points.h"

/*
  How the numbers of a file become the numbers of a solve:  x' = (S(x) - point_shift) / point_scale,
  y' = (y - value_shift) / value_scale; S maps (longitude, latitude) in degrees to the unit sphere, or is nothing.
*/
typedef struct {
  PetscBool  sphere;
  PetscInt   dim, q;
  PetscReal  point_shift[GRAM_MAX_DIM], point_scale[GRAM_MAX_DIM];
  PetscReal *value_shift, *value_scale; /* [q] */
} GramScaling;

/* Rows of a file, spread evenly over the ranks in input order. */
typedef struct {
  MPI_Comm  comm;
  PetscInt  n, n_local;       /* rows of all ranks, of this one */
  PetscInt  first;            /* this rank's first row; of targets, among all of them */
  PetscInt *row;              /* [n_local] rows of the file with -data_index; NULL: first, first + 1, ... */
  PetscInt  dim_file, dim, q; /* columns of x in the file; coordinates (3 on the sphere); columns of y or 0 */
  PetscReal *x_file;          /* [n_local][dim_file] as they stand in the file */
  PetscReal *x;               /* [n_local][dim] standardised */
  PetscReal *y; /* [n_local][q]: of data standardised, of targets as in the file; NULL without */
  PetscReal
      *gradients; /* [n_local][dim] of data with -data_gradients, standardised as y and x are; else NULL */
  GramScaling scaling; /* of data: what standardised it; of targets: that of their data */
} GramDataset;

/**
  GramDatasetRead - The problem: -data_file, -data_points, -data_values, -data_gradients, -data_index, -data_limit,
  -data_sphere, -data_standardize.

  Collective on comm. Free with GramDatasetClear().

  Errors: GRAM_ERR_INPUT naming the key, the dataset and the row: missing files and datasets, shapes that do not
  match, empty sets, numbers that are not finite, latitudes beyond 90, indices out of range.
**/
PetscErrorCode GramDatasetRead(MPI_Comm comm, GramDataset *data);

/**
  GramDatasetReadPoints - Points alone, without values, as they stand in the file.

  Collective on comm. Free with GramDatasetClear().

  @param[in] key    NULL: -data_file, -data_points, -data_index, -data_limit; else for messages, "nodes.start": dataset x of path
  @param[in] column NULL, or a dataset that may be there: y is then what it holds

  Errors: those of GramDatasetRead().
**/
PetscErrorCode GramDatasetReadPoints(MPI_Comm comm, const char *key, const char *path, const char *column,
                                     GramDataset *data);

/* Where to predict: any number of rows, of which a chunk is at hand. */
typedef struct {
  GramDataset rows; /* the chunk that GramTargetsRead() read last, x, x_file, and y where values are known */
  PetscInt    n,
      chunk; /* targets in all, 0: none are asked for; at most so many at once, on all ranks together */
  PetscBool                   gradient, variance; /* are wanted beside the mean */
  struct _p_GramTargetSource *source;             /* the file or the grid */
} GramTargets;

/**
  GramTargetsOpen - -target_file (with -target_points, -target_values, -target_index, -target_limit), or -target_grid on
  the bounding box of box; -target_gradient, -target_variance, -target_chunk.

  Collective on comm. A file is read through once, so that what is wrong in it is known before any work. Grid points run with
  the first coordinate slowest.

  @param[in]  scaling how the model's data were scaled; copied
  @param[in]  dim     coordinates of the model's files; targets must have as many
  @param[in]  n_box, box  [n_box][dim] points of the model on this rank, for the grid's bounding box
  @param[out] targets close with GramTargetsClose()

  Errors: those of GramDatasetRead(), of target keys.
**/
PetscErrorCode GramTargetsOpen(MPI_Comm comm, const GramScaling *scaling, PetscInt dim, PetscInt n_box,
                               const PetscReal *box, GramTargets *targets);

/* Rows [at, at + chunk) of the targets, those there are, to targets->rows. Collective. */
PetscErrorCode GramTargetsRead(GramTargets *targets, PetscInt at);
PetscErrorCode GramTargetsClose(GramTargets *targets);

/* Collective. The row of the file that input row i, of any rank, came from. */
PetscErrorCode GramDatasetGetFileRow(const GramDataset *data, PetscInt i, PetscInt *row);

/* Refuses two rows that are the same point, before work that a ridge of 0 would make in vain: GRAM_ERR_INPUT naming the rows.
   X: the points of data. Collective. */
PetscErrorCode GramDatasetRefuseEqual(const GramDataset *data, GramPoints X);

PetscErrorCode GramDatasetClear(GramDataset *data);

/* x' of rows x_file [n][dim_file]: to [n][scaling->dim]. Not collective. */
PetscErrorCode GramScalingApply(const GramScaling *scaling, PetscInt n, PetscInt dim_file,
                                const PetscReal *x_file, PetscReal *x);
PetscErrorCode GramScalingCopy(const GramScaling *from, GramScaling *to);
PetscErrorCode GramScalingClear(GramScaling *scaling);
