/* Progress of long phases on standard error: a bar on a terminal, a line now and then in a log. */
#pragma once

#include "gram.h"

#if defined(__cplusplus)
extern "C" {
#endif

/**
  GramProgressSetFromOptions - Read -monitor (auto, true, false).

  Collective on comm; only its first rank ever writes. auto and true draw a bar when standard error is a terminal
  (or GRAM_TTY is set, as jobs/local.sh does where mpiexec hides the terminal); otherwise they write lines, the
  first after 10 s (true: 1 s), each wait half as long again as the time passed so far, 5 minutes at most.
**/
PetscErrorCode GramProgressSetFromOptions(MPI_Comm comm);

/* A phase begins: work is what GramProgressAdd() will sum up to on this rank (0: unknown). Not collective; one
   phase at a time. */
PetscErrorCode GramProgressBegin(const char *phase, PetscReal work);

/* Kernel evaluations done: moves the bar when work is known, and feeds the rate in any case. */
PetscErrorCode GramProgressAdd(PetscReal pairs);

/* Overrides the fraction done, 0 .. 1, with a short note such as "iteration 40, residual 1e-5". */
PetscErrorCode GramProgressUpdate(PetscReal fraction, const char note[]);

PetscErrorCode GramProgressEnd(void);

#if defined(__cplusplus)
}
#endif
