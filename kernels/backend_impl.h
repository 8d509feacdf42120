/* What a backend fills in. Included by backend*.c and backend_*.cu only. */
#pragma once

#include "backend.h"

typedef struct {
  PetscErrorCode (*tilescreate)(GramTiles, PetscInt m, const PetscReal *x, PetscInt n, const PetscReal *z);
  PetscErrorCode (*tilesdestroy)(GramTiles);
  PetscErrorCode (*apply)(GramTiles, PetscInt n_tiles, const GramTile list[], PetscInt q, const PetscReal *v,
                          PetscReal *y, const PetscReal *w, PetscReal *u);
  PetscErrorCode (*entries)(GramTiles, PetscInt n_rows, const PetscInt rows[], PetscInt n_cols,
                            const PetscInt cols[], PetscReal *a, PetscInt lda);
  PetscErrorCode (*peak)(GramBackend, PetscLogDouble *fma_per_second); /* NULL: unknown */
} GramBackendOps;

struct _p_GramBackend {
  const char    *name, *detail;
  GramPrecision  precision;
  int            exp2_fma; /* multiplications and multiply-adds of one 2^-u */
  GramBackendOps ops;
};

struct _p_GramTiles {
  GramBackend backend; /* borrowed */
  GramKernel  kernel;
  GramPart    rows, cols;
  PetscInt    m, n;
  PetscBool   square; /* Z is X */
  void       *data;   /* the backend's own */
};

/* A creator fills ops and detail, or leaves found PETSC_FALSE where its hardware is missing. */
PetscErrorCode GramBackendCreate_CPU(GramBackend backend, PetscBool *found);
PetscErrorCode GramBackendCreate_Ref(GramBackend backend, PetscBool *found);
