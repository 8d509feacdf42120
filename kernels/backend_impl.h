/* What a backend fills in. Included by backend*.c, backend_*.cu and tests only. */
#pragma once

#include "backend.h"
#include "coulomb.h"

#if defined(__cplusplus)
extern "C" {
#endif

/* backend.h says what each does. NULL where a line says so; begin ... end are not called for q = 0, add not for an empty
   list, filled, malloc and copy not for nothing. */
typedef struct {
  PetscErrorCode (*destroy)(GramBackend); /* NULL: data needs none; not called where nothing was found */
  PetscErrorCode (*tilescreate)(GramTiles, PetscInt m, const PetscReal *x, PetscInt n, const PetscReal *z);
  PetscErrorCode (*tilesdestroy)(GramTiles);
  /* a product in pieces; q, v, y, w, u stand in the tiles until end returns */
  PetscErrorCode (*begin)(GramTiles, PetscInt q, const PetscReal *v, PetscReal *y, const PetscReal *w,
                          PetscReal *u);                                        /* NULL: nothing to do */
  PetscErrorCode (*filled)(GramTiles, PetscBool w, PetscInt first, PetscInt n); /* NULL: nothing to do */
  PetscErrorCode (*add)(GramTiles, PetscInt n_tiles, const GramTile list[]);
  PetscErrorCode (*end)(GramTiles); /* NULL: nothing to do */
  PetscErrorCode (*entries)(GramTiles, PetscInt n_rows, const PetscInt rows[], PetscInt n_cols,
                            const PetscInt cols[], PetscReal *a, PetscInt lda);
  PetscErrorCode (*coulomb)(GramBackend, PetscInt dim, PetscInt m, const PetscReal *x, PetscInt n,
                            const PetscReal *z, const GramCloud *cloud, PetscReal *out);
  /* memory */
  PetscErrorCode (*malloc)(GramTiles, GramPanelUse, size_t numbers, PetscReal **); /* NULL: PetscMalloc() */
  PetscErrorCode (*free)(GramTiles, PetscReal **);                                 /* NULL: PetscFree() */
  PetscErrorCode (*copy)(GramBackend, void *dst, const void *src, size_t bytes);   /* NULL: memcpy() */
  PetscErrorCode (*capacity)(GramBackend, PetscInt m, PetscInt n, PetscInt dim, PetscInt q,
                             PetscLogDouble *need, PetscLogDouble *have); /* NULL: no memory of its own */
  PetscLogDouble (*hostbytes)(PetscInt points, PetscInt dim,
                              PetscInt q);                             /* NULL: nothing beside the formulas */
  PetscErrorCode (*peak)(GramBackend, PetscLogDouble *fma_per_second); /* NULL: unknown */
} GramBackendOps;

struct _p_GramBackend {
  const char    *name, *detail;
  GramPrecision  precision;
  int            exp2_fma; /* multiplications and multiply-adds of one 2^-u */
  GramBackendOps ops;
  void          *data; /* the backend's own */
};

struct _p_GramTiles {
  GramBackend      backend; /* borrowed */
  GramKernel       kernel;
  GramPart         rows, cols;
  PetscInt         m, n;
  PetscBool        square;  /* Z is X */
  PetscBool        rowwise; /* GramTilesSetRowwise() */
  PetscInt         q;       /* columns of the product under way, 0: none; then its panels, borrowed */
  const PetscReal *v, *w;
  PetscReal       *y, *u;
  PetscLogDouble   device_seconds; /* of all products, from the first launch to the last sum */
  void            *data;           /* the backend's own */
};

/* A creator fills ops and detail, or leaves found PETSC_FALSE where its hardware is missing; detail then says what is
   ("no CUDA device found"), in memory that lasts. Collective on comm; ranks may find different things, and the backend
   is taken when all have found theirs. */
PetscErrorCode GramBackendCreate_CUDA(MPI_Comm comm, GramBackend backend, PetscBool *found);
PetscErrorCode GramBackendCreate_CPU(MPI_Comm comm, GramBackend backend, PetscBool *found);
PetscErrorCode GramBackendCreate_Ref(MPI_Comm comm, GramBackend backend, PetscBool *found);

#if defined(__cplusplus)
}
#endif
