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
  PetscInt  n, n_local;       /* rows in all, rows of this rank */
  PetscInt  first;            /* this rank's first row */
  PetscInt *row;              /* [n_local] rows of the file with -data_index; NULL: first, first + 1, ... */
  PetscInt  dim_file, dim, q; /* columns of x in the file; coordinates (3 on the sphere); columns of y or 0 */
  PetscReal *x_file;          /* [n_local][dim_file] as they stand in the file */
  PetscReal *x;               /* [n_local][dim] standardised */
  PetscReal *y; /* [n_local][q]: of data standardised, of targets as in the file; NULL without */
  PetscReal
      *gradients; /* [n_local][dim] of data with -data_gradients, standardised as y and x are; else NULL */
  GramScaling scaling;  /* of data: what standardised it; of targets: that of their data */
  PetscBool   grid;     /* targets made by -target_grid */
  PetscBool   gradient; /* of the mean is wanted at targets */
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
  GramTargetsRead - Where to predict: -target_file (with -target_points, -target_values, -target_index,
  -target_limit), or -target_grid on the bounding box of box; and -target_gradient.

  Collective. n = 0 when neither is asked for. Grid points run with the first coordinate slowest.

  @param[in]  scaling how the model's data were scaled; copied
  @param[in]  dim     coordinates of the model's files; targets must have as many
  @param[in]  n_box, box  [n_box][dim] points of the model on this rank, for the grid's bounding box
**/
PetscErrorCode GramTargetsRead(MPI_Comm comm, const GramScaling *scaling, PetscInt dim, PetscInt n_box,
                               const PetscReal *box, GramDataset *targets);

/* Collective. The row of the file that input row i, of any rank, came from. */
PetscErrorCode GramDatasetGetFileRow(const GramDataset *data, PetscInt i, PetscInt *row);

PetscErrorCode GramDatasetClear(GramDataset *data);

/* x' of rows x_file [n][dim_file]: to [n][scaling->dim]. Not collective. */
PetscErrorCode GramScalingApply(const GramScaling *scaling, PetscInt n, PetscInt dim_file,
                                const PetscReal *x_file, PetscReal *x);
PetscErrorCode GramScalingCopy(const GramScaling *from, GramScaling *to);
PetscErrorCode GramScalingClear(GramScaling *scaling);
