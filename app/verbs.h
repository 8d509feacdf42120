/* The verbs of gramarye. Each is one screen that reads top to bottom. */
#pragma once

#include "gram.h"

/* The result is written; it missed its tolerance (exit code 3); a signal ended the run after a checkpoint (75). */
typedef enum { GRAM_DONE, GRAM_UNCONVERGED, GRAM_STOPPED } GramOutcome;

/* GramVerb... - Run a verb with the options database as its config. Collective on comm. */
PetscErrorCode GramVerbSolve(MPI_Comm comm, GramOutcome *outcome);
PetscErrorCode GramVerbPredict(MPI_Comm comm, GramOutcome *outcome);
PetscErrorCode GramVerbNodes(MPI_Comm comm, GramOutcome *outcome);
PetscErrorCode GramVerbWeights(MPI_Comm comm, GramOutcome *outcome);
PetscErrorCode GramVerbBench(MPI_Comm comm, GramOutcome *outcome);
PetscErrorCode GramVerbInfo(MPI_Comm comm, GramOutcome *outcome);
