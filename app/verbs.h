/* The verbs of gramarye. Each is one screen that reads top to bottom. */
#pragma once

#include "gram.h"

/**
  GramVerb... - Run a verb with the options database as its config.

  Collective on comm.

  @param[out] converged PETSC_FALSE: the result is written but missed its tolerance (exit code 3)
**/
PetscErrorCode GramVerbSolve(MPI_Comm comm, PetscBool *converged);
PetscErrorCode GramVerbPredict(MPI_Comm comm, PetscBool *converged);
PetscErrorCode GramVerbBench(MPI_Comm comm, PetscBool *converged);
PetscErrorCode GramVerbInfo(MPI_Comm comm, PetscBool *converged);
