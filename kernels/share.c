#include "share.h"

PetscErrorCode GramShare(MPI_Comm comm, PetscInt n, PetscInt *first, PetscInt *n_local)
{
  PetscMPIInt rank;

  PetscFunctionBegin;
  *n_local = PETSC_DECIDE;
  PetscCall(PetscSplitOwnership(comm, n_local, &n));
  PetscCallMPI(MPI_Comm_rank(comm, &rank));
  PetscCallMPI(MPI_Exscan(n_local, first, 1, MPIU_INT, MPI_SUM, comm));
  if (!rank) *first = 0;
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramAllGather(MPI_Comm comm, PetscInt n_local, PetscInt width, const PetscReal *local,
                             PetscReal *all)
{
  PetscMPIInt  size, mine, row, *counts, *starts;
  MPI_Datatype type; /* a row: counts of numbers could outgrow an int */

  PetscFunctionBegin;
  PetscCallMPI(MPI_Comm_size(comm, &size));
  PetscCall(PetscMPIIntCast(n_local, &mine));
  PetscCall(PetscMPIIntCast(width, &row));
  PetscCall(PetscMalloc2(size, &counts, size, &starts));
  PetscCallMPI(MPI_Allgather(&mine, 1, MPI_INT, counts, 1, MPI_INT, comm));
  for (PetscMPIInt r = 0, at = 0; r < size; at += counts[r++]) starts[r] = at;
  PetscCallMPI(MPI_Type_contiguous(row, MPIU_REAL, &type));
  PetscCallMPI(MPI_Type_commit(&type));
  PetscCallMPI(MPI_Allgatherv(local, mine, type, all, counts, starts, type, comm));
  PetscCallMPI(MPI_Type_free(&type));
  PetscCall(PetscFree2(counts, starts));
  PetscFunctionReturn(PETSC_SUCCESS);
}
