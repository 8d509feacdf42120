/*
  The HDF5 calls that datasets and models share: parallel, collective, and all or nothing.

  Reading errors name the option that led to the file ("data.file: ...") and are GRAM_ERR_INPUT. Writing goes to
  a temporary name beside the target, which is flushed and renamed only when every call on every rank went well;
  any failure removes the temporary file and is GRAM_ERR_RESOURCE, and so is another run that is writing the same. Row-major, C order, float64.
*/
#pragma once

#include "gram.h"

typedef struct _p_GramH5 *GramH5;

/**
  GramH5OpenRead - Open a file on all ranks.

  Collective on comm.

  @param[in]  key  option that names the file, for messages: "data.file"
  @param[out] file close with GramH5Close()

  Errors: GRAM_ERR_INPUT when the file is missing, unreadable, not HDF5 or truncated; from GramH5ReadRows() and
  GramH5Close() when it has changed since.
**/
PetscErrorCode GramH5OpenRead(MPI_Comm comm, const char *path, const char *key, GramH5 *file);

/**
  GramH5Create - Begin a file that will replace path when GramH5Close() succeeds.

  Collective on comm.

  @param[in] bytes about what will be written: taken from the disk at once where the file system can do that, so that
                   writing does not fail halfway

  Errors: GRAM_ERR_RESOURCE when the folder cannot be written or the disk is full; *file is then NULL.
**/
PetscErrorCode GramH5Create(MPI_Comm comm, const char *path, const char *key, PetscLogDouble bytes,
                            GramH5 *file);

/* Would GramH5Create() find room now? Takes away what a killed run has left under the temporary name. Collective.
   Errors: GRAM_ERR_RESOURCE. */
PetscErrorCode GramH5CheckSpace(MPI_Comm comm, const char *path, const char *key, PetscLogDouble bytes);

/* Not collective, of one rank. Removes a temporary file that a killed run left, unless a run is writing it. */
void GramH5RemovePartial(const char *partial);

/* GramH5Close() gives the file that it replaces this name. Not collective; the same on all ranks. */
PetscErrorCode GramH5KeepOld(GramH5 file, const char *old);

/* PETSC_TRUE after a write has failed: HDF5 cannot give a file up, it would flush again in MPI_Finalize() and then
   hang or crash. Leave with _exit() then. Not collective; the same on all ranks. */
PetscBool GramH5IsLost(void);

/* After an error between GramH5Create() and GramH5Close(): removes the temporary file, and GramH5IsLost(). Collective. */
PetscErrorCode GramH5GiveUp(MPI_Comm comm);

/* Collective. For a file being written: all or nothing. */
PetscErrorCode GramH5Close(GramH5 *file);

/* Collective. Does the dataset, group or attribute ("group@attribute") exist? */
PetscErrorCode GramH5Exists(GramH5 file, const char *name, PetscBool *exists);

/**
  GramH5GetShape - Rank and extents of a dataset of numbers.

  Collective.

  @param[in]  key     option that names the dataset, for messages: "data.values"
  @param[in]  integer PETSC_TRUE: whole numbers are required
  @param[out] ndims   1 or 2
  @param[out] rows, cols  extents; cols = 1 for one dimension

  Errors: GRAM_ERR_INPUT when it is missing, has another rank or does not hold numbers, or more rows than PetscInt.
**/
PetscErrorCode GramH5GetShape(GramH5 file, const char *name, const char *key, PetscBool integer,
                              PetscInt *ndims, PetscInt *rows, PetscInt *cols);

/**
  GramH5ReadRows - Rows [first, first + n) of a 1-d or 2-d dataset, converted to double.

  Collective; each rank its own rows, n may be 0.

  @param[out] x [n][cols]

  Errors: GRAM_ERR_INPUT.
**/
PetscErrorCode GramH5ReadRows(GramH5 file, const char *name, const char *key, PetscInt first, PetscInt n,
                              PetscReal *x);

/* Collective. Read n numbers from an attribute of a group ("" is the root). Errors: GRAM_ERR_INPUT. */
PetscErrorCode GramH5ReadAttribute(GramH5 file, const char *group, const char *name, PetscInt *n,
                                   PetscReal *x);
PetscErrorCode GramH5ReadString(GramH5 file, const char *group, const char *name, char text[], size_t size);

/**
  GramH5WriteRows - A dataset of all ranks' rows, in rank order.

  Collective. Groups in name are created. After a failure on any rank nothing more is written, and GramH5Close()
  reports it.

  @param[in] ndims 0: one number (of the first rank), 1: [rows], 2: [rows][cols]
  @param[in] n     rows of this rank
  @param[in] x     [n][cols]
**/
PetscErrorCode GramH5WriteRows(GramH5 file, const char *name, PetscInt ndims, PetscInt n, PetscInt cols,
                               const PetscReal *x);

/**
  GramH5CreateRows, GramH5WriteAt - A dataset of rows in all, and then some of its rows at a time.

  Collective; each rank its own rows [first, first + n), n may be 0 but on all ranks.

  @param[in] ndims 1: [rows], 2: [rows][a], 3: [rows][a][b]
  @param[in] x     [n][a][b]
**/
PetscErrorCode GramH5CreateRows(GramH5 file, const char *name, PetscInt ndims, PetscInt rows, PetscInt a,
                                PetscInt b);
PetscErrorCode GramH5WriteAt(GramH5 file, const char *name, PetscInt first, PetscInt n, const PetscReal *x);

/* Collective; the same values on every rank. n = 0 writes a scalar. Groups are created. */
PetscErrorCode GramH5WriteReals(GramH5 file, const char *group, const char *name, PetscInt n,
                                const PetscReal *x);
PetscErrorCode GramH5WriteInt(GramH5 file, const char *group, const char *name, PetscInt64 value);
PetscErrorCode GramH5WriteString(GramH5 file, const char *group, const char *name, const char *text);
