/* Rows that ranks own in even shares, and arrays that all ranks have. */
#pragma once

#include "gram.h"

/* This rank's even share of n rows, [first, first + n_local). Collective. */
PetscErrorCode GramShare(MPI_Comm comm, PetscInt n, PetscInt *first, PetscInt *n_local);

/* Rows of width numbers of all ranks, in their order, on every rank: local [n_local][width], all [n][width], which may not
   overlap. Collective. */
PetscErrorCode GramAllGather(MPI_Comm comm, PetscInt n_local, PetscInt width, const PetscReal *local,
                             PetscReal *all);
