/* Checkpoints: where an iterative solve is, as an HDF5 file that another run goes on from. */
#pragma once

#include <stdint.h>

#include "gram.h"

/* A solve on its way; arrays in input order, so that any number of ranks can go on. */
typedef struct {
  MPI_Comm   comm;
  PetscInt   n, n_local, numbers, q; /* points, those of this rank, numbers of a point, right-hand sides */
  PetscReal *x, *p;           /* [n_local][numbers][q] the solution so far; the last directions of cg */
  PetscReal *rz, *iterations; /* [q] what goes with the directions, 0: nothing; iterations of the column */
  PetscInt   n_history;
  PetscReal *history;     /* [n_history] on every rank */
  PetscInt   total;       /* iterations of all columns */
  PetscInt   growth[4];   /* of the preconditioner */
  char       data[64];    /* what it is a solution of: the numbers, */
  char       kernel[512]; /* the kernel and its ridge; */
  char       method[512]; /* and by what the directions came about */
} GramCheckpoint;

PetscErrorCode GramCheckpointClear(GramCheckpoint *checkpoint);

/**
  GramCheckpointWrite - Write path, all or nothing; what was there becomes path.old.

  Collective. The file holds a sum over the bits of its numbers.

  Errors: GRAM_ERR_RESOURCE when the disk is full or the folder cannot be written: path is then as it was.
**/
PetscErrorCode GramCheckpointWrite(const char *path, const GramCheckpoint *checkpoint);

/**
  GramCheckpointRead - Read path, or path.old where path is not there, damaged or of something else.

  Collective.

  @param[in]     comm, n, n_local, q, data, kernel in checkpoint: what is to be solved, by these rows
  @param[in,out] checkpoint out: the rest, to be freed with GramCheckpointClear(), where found
  @param[out]    found      one that is whole and of this problem
  @param[out]    what       [size] of the one that was found its name; else why none was, "" where there is no file
**/
PetscErrorCode GramCheckpointRead(const char *path, GramCheckpoint *checkpoint, PetscBool *found, char what[],
                                  size_t size);

/* Both generations, and what a killed run was writing. Collective. */
PetscErrorCode GramCheckpointRemove(MPI_Comm comm, const char *path);

/* A sum over [n_local][width] numbers in input order that is the same on any number of ranks. Collective. */
PetscErrorCode GramChecksum(MPI_Comm comm, PetscInt n_local, PetscInt width, const PetscReal *x,
                            uint64_t *sum);
