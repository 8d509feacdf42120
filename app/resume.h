/* Runs that can be stopped and run again: signals, checkpoints, and what they are of. */
#pragma once

#include "checkpoint.h"
#include "dataset.h"
#include "pwgd.h"
#include "solve.h"

/* When checkpoints are written, and where: what solves and sweeps share. A plain struct. */
typedef struct {
  MPI_Comm       comm;
  char           path[PETSC_MAX_PATH_LEN];
  PetscReal      interval; /* seconds between checkpoints, 0: only on a signal */
  PetscBool      watching; /* TERM is caught */
  PetscBool      stopping; /* the last request was to stop */
  PetscBool      without;  /* the last checkpoint could not be written */
  PetscLogDouble last;     /* when one was written */
} GramSaving;

/* Everything GramSolve() needs to be saved and gone on with. A plain struct. */
typedef struct {
  GramSaving       saving;
  GramPoints       X;     /* borrowed */
  GramCheckpoint   of;    /* the problem: its names and sizes */
  GramCheckpoint   found; /* what there was to go on from */
  GramSolveState   from;
  GramSolveControl control; /* for GramSolve() */
  PetscLogDouble   memory;  /* in: bytes of all ranks at the peak of the run, but for the set-up of pc lrv */
  PetscLogDouble   settled; /* out: with it, once it is known what that takes; 0: it is not known */
} GramResume;

/* And GramPwgd(). */
typedef struct {
  GramSaving       saving;
  PetscInt         dim, n;
  GramCheckpoint   of;
  GramSweepControl control;
  GramSolveControl solve; /* of the weights that come after: a signal ends it, and what was swept is saved */
  GramSweepState  *state; /* borrowed */
} GramSweepResume;

/* From here on USR1 is noted, and ends a solve or a sweep with a checkpoint in place of the program. Not collective; before
   MPI_Init(). TERM likewise from the first iteration of a solve to its last. */
void GramSignalsCatch(void);

/**
  GramResumeCreate - Read -checkpoint_file (the output's name and .checkpoint), -checkpoint_interval and
  -checkpoint_restart, and the checkpoint there is.

  Collective.

  @param[in]  output  path of the result
  @param[in]  X       points of the solve; borrowed
  @param[out] resume  free with GramResumeDestroy()

  Says on standard output what it goes on from, and on standard error why it does not where there is a file.

  Errors: GRAM_ERR_INPUT naming the key.
**/
PetscErrorCode GramResumeCreate(MPI_Comm comm, const char *output, const GramDataset *data, GramPoints X,
                                const GramKernel *kernel, GramResume *resume);

/* done: the result is written, and the checkpoint of no more use. Collective. */
PetscErrorCode GramResumeDestroy(GramResume *resume, PetscBool done);

/**
  GramSweepResumeCreate, GramSweepResumeDestroy - The same for nodes on their way: state is that of the start, and becomes
  that of the checkpoint there is.

  Collective.

  @param[in] what how nodes are moved, in words that tell one descent from another
**/
PetscErrorCode GramSweepResumeCreate(MPI_Comm comm, const char *output, const GramSweep *sweep,
                                     const char *what, GramSweepState *state, GramSweepResume *resume);
PetscErrorCode GramSweepResumeDestroy(GramSweepResume *resume, PetscBool done);
