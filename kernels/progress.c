#include <stdlib.h>
#include <unistd.h>

#include <petsctime.h>

#include "progress.h"

/* there is one standard error per process, so there is one of these */
static struct {
  PetscBool      on, bar, drawn;
  PetscLogDouble patience; /* s before the first line of a log */
  char           phase[32], note[80];
  PetscReal      work, pairs;       /* of the phase; done so far on this rank */
  PetscReal      fraction;          /* < 0: unknown */
  PetscLogDouble begun, last, next; /* s: start of the phase, last drawing, next drawing */
} progress;

PetscErrorCode GramProgressSetFromOptions(MPI_Comm comm)
{
  char        monitor[16] = "auto";
  PetscBool   automatic;
  PetscBool   wanted = PETSC_TRUE;
  PetscMPIInt rank;

  PetscFunctionBegin;
  PetscOptionsBegin(comm, NULL, "Progress", NULL);
  PetscCall(PetscOptionsString("-monitor", "Progress on standard error: auto, true, false", NULL, monitor,
                               monitor, sizeof monitor, NULL));
  PetscOptionsEnd();
  PetscCall(PetscStrcmp(monitor, "auto", &automatic));
  if (!automatic) PetscCall(PetscOptionsStringToBool(monitor[0] ? monitor : "true", &wanted));
  PetscCallMPI(MPI_Comm_rank(comm, &rank));
  progress.on       = (PetscBool)(wanted && rank == 0);
  progress.bar      = (PetscBool)(isatty(STDERR_FILENO) || getenv("GRAM_TTY") != NULL);
  progress.patience = automatic ? 10 : 1;
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramProgressBegin(const char *phase, PetscReal work)
{
  PetscFunctionBegin;
  PetscCall(PetscStrncpy(progress.phase, phase, sizeof progress.phase));
  PetscCall(PetscTime(&progress.begun));
  progress.note[0]  = '\0';
  progress.work     = work;
  progress.pairs    = 0;
  progress.fraction = -1;
  progress.last     = progress.begun;
  progress.next     = progress.begun + (progress.bar ? 0.2 : progress.patience);
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode Draw(PetscLogDouble now)
{
  const PetscLogDouble spent   = now - progress.begun;
  char                 bar[31] = "..............................", left[32] = "", percent[16] = "";
  const PetscReal      f = progress.fraction;

  PetscFunctionBegin;
  if (f > 0) {
    const int s = (int)(spent * (1 - f) / f);

    for (int i = 0; i < 30; i++) bar[i] = i < (int)(30 * f) ? '#' : '.';
    PetscCall(PetscSNPrintf(left, sizeof left, ", %d:%02d left", s / 60, s % 60));
    PetscCall(PetscSNPrintf(percent, sizeof percent, "%3d %% ", (int)(100 * f)));
  }
  if (progress.bar) {
    PetscCall(PetscFPrintf(PETSC_COMM_SELF, stderr, "\r\033[K%-10s [%s] %s%s%s%.2f Gpair/s a rank%s",
                           progress.phase, bar, percent, progress.note, progress.note[0] ? ", " : "",
                           (double)(progress.pairs / spent * 1e-9), left));
  } else {
    PetscCall(PetscFPrintf(PETSC_COMM_SELF, stderr, "%-10s %s%s%s%.0f s, %.2f Gpair/s a rank%s\n",
                           progress.phase, percent, progress.note, progress.note[0] ? ", " : "",
                           (double)spent, (double)(progress.pairs / spent * 1e-9), left));
  }
  (void)fflush(stderr);
  progress.drawn = PETSC_TRUE;
  progress.last  = now;
  progress.next  = now + (progress.bar ? 0.2 : PetscMin(300, PetscMax(progress.patience, 0.5 * spent)));
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode DrawWhenDue(void)
{
  PetscLogDouble now;

  PetscFunctionBegin;
  if (!progress.on || !progress.phase[0]) PetscFunctionReturn(PETSC_SUCCESS);
  PetscCall(PetscTime(&now));
  if (now >= progress.next) PetscCall(Draw(now));
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramProgressAdd(PetscReal pairs)
{
  PetscFunctionBegin;
  progress.pairs += pairs;
  if (progress.work > 0) progress.fraction = PetscMin(1, progress.pairs / progress.work);
  PetscCall(DrawWhenDue());
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramProgressUpdate(PetscReal fraction, const char note[])
{
  PetscFunctionBegin;
  progress.fraction =
      PetscMax(progress.fraction, PetscMin(1, fraction)); /* residuals go up and down, bars do not */
  PetscCall(PetscStrncpy(progress.note, note, sizeof progress.note));
  PetscCall(DrawWhenDue());
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramProgressEnd(void)
{
  PetscFunctionBegin;
  if (progress.on && progress.drawn && progress.bar) {
    PetscCall(PetscFPrintf(PETSC_COMM_SELF, stderr, "\r\033[K"));
    (void)fflush(stderr);
  }
  progress.drawn    = PETSC_FALSE;
  progress.phase[0] = '\0';
  PetscFunctionReturn(PETSC_SUCCESS);
}
