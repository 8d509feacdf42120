#include <petsctime.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "h5.h"
#include "resume.h"
#include "result.h"
#include "share.h"

#define PROBLEM (2 * PETSC_MAX_PATH_LEN) /* bytes of a message */

static volatile sig_atomic_t caught;

static void Catch(int signal)
{
  (void)signal;
  caught = 1;
}

static void On(int signal, void (*handler)(int))
{
  struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART};

  (void)sigemptyset(&action.sa_mask);
  (void)sigaction(signal, &action, NULL);
}

void GramSignalsCatch(void) { On(SIGUSR1, Catch); }

/* A signal may reach one rank alone, and clocks differ: all do what any wants. */
static PetscErrorCode Request(GramSaving *r, GramRequest *request)
{
  PetscLogDouble now;
  int            wanted = GRAM_GO_ON;

  PetscFunctionBegin;
  if (!r->watching) On(SIGTERM, Catch); /* from the first iteration on there is something to save */
  r->watching = PETSC_TRUE;
  PetscCall(PetscTime(&now));
  if (r->interval > 0 && now - r->last >= r->interval) wanted = GRAM_SAVE;
  if (caught) wanted = GRAM_STOP;
  PetscCallMPI(MPI_Allreduce(MPI_IN_PLACE, &wanted, 1, MPI_INT, MPI_MAX, r->comm));
  *request    = (GramRequest)wanted;
  r->stopping = (PetscBool)(wanted == GRAM_STOP);
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* in place of saying it: what went wrong, for the caller to say */
static PetscErrorCode Note(MPI_Comm comm, int line, const char *function, const char *file, PetscErrorCode n,
                           PetscErrorType type, const char *message, void *ctx)
{
  (void)comm, (void)line, (void)function, (void)file;
  if (type == PETSC_ERROR_INITIAL) (void)snprintf((char *)ctx, PROBLEM, "%s", message ? message : "");
  return n;
}

/* A solve can do without a checkpoint now and then; one that is to stop cannot, nor one whose file HDF5 still holds. */
static PetscErrorCode Write(GramSaving *r, const GramCheckpoint *c)
{
  PetscErrorCode error;
  char           problem[PROBLEM] = "";

  PetscFunctionBegin;
  PetscCall(PetscPushErrorHandler(Note, problem));
  error = GramCheckpointWrite(r->path, c);
  PetscCall(PetscPopErrorHandler());
  PetscCheck(!error || (error == GRAM_ERR_RESOURCE && !r->stopping && !GramH5IsLost()), r->comm, error, "%s",
             problem);
  if (error && !r->without) /* said once, not at every interval */
    PetscCall(
        PetscFPrintf(r->comm, stderr, "gramarye: warning: %s; the solve goes on without it\n", problem));
  r->without = (PetscBool)(error != 0);
  PetscCall(PetscTime(&r->last));
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode RequestSolve(void *ctx, GramRequest *request)
{
  PetscFunctionBegin;
  PetscCall(Request(&((GramResume *)ctx)->saving, request));
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode SaveSolve(void *ctx, const GramSolveState *state)
{
  GramResume    *r = (GramResume *)ctx;
  GramCheckpoint c = r->of;

  PetscFunctionBegin;
  c.total     = state->total;
  c.n_history = state->n_history;
  c.growth[0] = state->growth.rank;
  c.growth[1] = state->growth.neighbors;
  c.growth[2] = state->growth.grown;
  c.growth[3] = state->growth.insist;
  PetscCall(
      PetscMalloc2(GramAt(c.n_local, c.numbers * c.q, 0), &c.x, GramAt(c.n_local, c.numbers * c.q, 0), &c.p));
  PetscCall(PetscMalloc2(c.q, &c.rz, c.q, &c.iterations));
  PetscCall(PetscMalloc1(c.n_history, &c.history));
  PetscCall(PetscArraycpy(c.history, state->history, c.n_history));
  PetscCall(GramPanelToInput(r->X, c.numbers, state->X, c.x));
  PetscCall(GramPanelToInput(r->X, c.numbers, state->P, c.p));
  for (PetscInt q = 0; q < c.q; q++) {
    c.rz[q]         = state->rz[q];
    c.iterations[q] = (PetscReal)state->iterations[q];
  }
  PetscCall(Write(&r->saving, &c));
  PetscCall(GramCheckpointClear(&c));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* the numbers of a problem and what acts on them, with all their digits */
static PetscErrorCode Describe(const GramDataset *data, const GramKernel *kernel, GramCheckpoint *c)
{
  uint64_t x, y, gradients = 0;
  char     number[32];

  PetscFunctionBegin;
  PetscCall(GramChecksum(data->comm, data->n_local, data->dim, data->x, &x));
  PetscCall(GramChecksum(data->comm, data->n_local, data->q, data->y, &y));
  if (data->gradients)
    PetscCall(GramChecksum(data->comm, data->n_local, data->dim, data->gradients, &gradients));
  (void)snprintf(c->data, sizeof c->data, "%016llx %016llx %016llx", (unsigned long long)x,
                 (unsigned long long)y, (unsigned long long)gradients);
  (void)snprintf(c->kernel, sizeof c->kernel,
                 "kernel %s, amplitude %.17g, alpha %.17g %.17g, tail %d, length scale", kernel->type,
                 (double)kernel->amplitude, (double)kernel->alpha,
                 kernel->gradients ? (double)kernel->alpha_gradient : 0., (int)kernel->tail_degree);
  if (GramRadialGetInfo(kernel->radial)->twonu > 0) {
    (void)snprintf(number, sizeof number, ", 2 nu %d", (int)GramRadialGetInfo(kernel->radial)->twonu);
    PetscCall(PetscStrlcat(c->kernel, number, sizeof c->kernel));
  }
  if (GramRadialGetInfo(kernel->radial)->beta) {
    (void)snprintf(number, sizeof number, ", beta %.17g", (double)kernel->beta);
    PetscCall(PetscStrlcat(c->kernel, number, sizeof c->kernel));
  }
  for (PetscInt k = 0; k < kernel->dim; k++) {
    (void)snprintf(number, sizeof number, " %.17g", (double)kernel->length_scale[k]);
    PetscCall(PetscStrlcat(c->kernel, number, sizeof c->kernel));
  }
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* the options that say by which recursion directions came about: others begin anew from x */
static PetscErrorCode Method(char method[], size_t size)
{
  static const char *const names[] = {"-ksp_type",         "-ksp_norm_type",    "-pc_type",
                                      "-pc_lrv_rank",      "-pc_lrv_neighbors", "-product_precision",
                                      "-product_tolerance"};

  PetscFunctionBegin;
  method[0] = '\0';
  for (size_t i = 0; i < PETSC_STATIC_ARRAY_LENGTH(names); i++) {
    char      value[64] = "";
    PetscBool set;

    PetscCall(PetscOptionsGetString(NULL, NULL, names[i], value, sizeof value, &set));
    if (!set) continue;
    PetscCall(PetscStrlcat(method, names[i], size));
    PetscCall(PetscStrlcat(method, " ", size));
    PetscCall(PetscStrlcat(method, value, size));
    PetscCall(PetscStrlcat(method, " ", size));
  }
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode FromOptions(MPI_Comm comm, const char *output, GramSaving *r, PetscBool *restart)
{
  char      interval[64] = "none", word[32] = "auto";
  char     *end;
  PetscBool set;

  PetscFunctionBegin;
  *r = (GramSaving){.comm = comm};
  PetscCall(PetscTime(&r->last));
  PetscCall(PetscSNPrintf(r->path, sizeof r->path, "%s.checkpoint", output));
  PetscCall(PetscOptionsGetString(NULL, NULL, "-checkpoint_file", r->path, sizeof r->path, NULL));
  PetscCall(PetscOptionsGetString(NULL, NULL, "-checkpoint_interval", interval, sizeof interval, &set));
  if (set && strcmp(interval, "none") != 0) {
    r->interval = strtod(interval, &end);
    GramCheckInput(*interval && !*end && r->interval > 0, comm,
                   "checkpoint.interval: '%s' is neither none nor a number of seconds > 0", interval);
  }
  PetscCall(PetscOptionsGetString(NULL, NULL, "-checkpoint_restart", word, sizeof word, NULL));
  PetscCall(PetscStrcasecmp(word, "auto", restart));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* the estimate of memory once more, before the iterations: now lrv has chosen */
static PetscErrorCode Settled(void *ctx, const GramLRVInfo *info, PetscLogDouble bytes)
{
  GramResume *r = (GramResume *)ctx;
  PetscMPIInt ranks;

  PetscFunctionBegin;
  PetscCallMPI(MPI_Comm_size(r->saving.comm, &ranks));
  r->settled = r->memory + bytes;
  PetscCall(GramSay(r->saving.comm, "set-up",
                    "lrv, rank %" PetscInt_FMT ", %" PetscInt_FMT " neighbours: peak %.3g GB, %.3g GB a rank",
                    info->rank, info->neighbors, r->settled * 1e-9, r->settled / ranks * 1e-9));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* the state that the checkpoint found is, with rows where they are here */
static PetscErrorCode Adopt(GramResume *r)
{
  GramCheckpoint *c    = &r->found;
  PetscBool       same = (PetscBool)!strcmp(c->method, r->of.method);

  PetscFunctionBegin;
  PetscCall(GramPanelFromInput(r->X, c->numbers, c->q, c->x, &r->from.X));
  PetscCall(GramPanelFromInput(r->X, c->numbers, c->q, c->p, &r->from.P));
  PetscCall(PetscMalloc1(c->q, &r->from.iterations));
  for (PetscInt q = 0; q < c->q; q++) {
    r->from.iterations[q] = (PetscInt)c->iterations[q];
    if (!same) c->rz[q] = 0;
  }
  r->from.rz        = c->rz;
  r->from.total     = c->total;
  r->from.n_history = c->n_history;
  r->from.history   = c->history;
  if (same)
    r->from.growth = (GramLRVGrowth){.rank      = c->growth[0],
                                     .neighbors = c->growth[1],
                                     .grown     = (PetscBool)(c->growth[2] != 0),
                                     .insist    = (PetscBool)(c->growth[3] != 0)};
  r->control.from = &r->from;
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* the checkpoint there is, and a word about it */
static PetscErrorCode Look(const GramSaving *s, PetscBool restart, const char *unit, GramCheckpoint *c,
                           PetscBool *found)
{
  char what[PETSC_MAX_PATH_LEN + 600] = "";

  PetscFunctionBegin;
  *found = PETSC_FALSE;
  if (restart) PetscCall(GramCheckpointRead(s->path, c, found, what, sizeof what));
  if (*found)
    PetscCall(GramSay(s->comm, "resumed", "from %s, after %" PetscInt_FMT " %s", what, c->total, unit));
  else if (what[0])
    PetscCall(
        PetscFPrintf(s->comm, stderr, "gramarye: warning: checkpoint.restart: begins anew, %s\n", what));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* done: the checkpoint is of no more use */
static PetscErrorCode Leave(const GramSaving *s, PetscBool done)
{
  PetscFunctionBegin;
  On(SIGTERM, SIG_DFL);
  if (done) PetscCall(GramCheckpointRemove(s->comm, s->path));
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramResumeCreate(MPI_Comm comm, const char *output, const GramDataset *data, GramPoints X,
                                const GramKernel *kernel, GramResume *r)
{
  PetscBool restart, found;

  PetscFunctionBegin;
  PetscCall(PetscMemzero(r, sizeof *r));
  r->X = X;
  PetscCall(FromOptions(comm, output, &r->saving, &restart));
  r->of = (GramCheckpoint){.comm    = comm,
                           .n       = data->n,
                           .n_local = data->n_local,
                           .q       = data->q,
                           .numbers = GramKernelNumbers(kernel)};
  PetscCall(Describe(data, kernel, &r->of));
  PetscCall(Method(r->of.method, sizeof r->of.method));
  r->control = (GramSolveControl){.request = RequestSolve, .save = SaveSolve, .settled = Settled, .ctx = r};
  r->found   = r->of;
  PetscCall(Look(&r->saving, restart, "iterations", &r->found, &found));
  if (found) PetscCall(Adopt(r));
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramResumeDestroy(GramResume *r, PetscBool done)
{
  PetscFunctionBegin;
  PetscCall(Leave(&r->saving, done));
  PetscCall(MatDestroy(&r->from.X));
  PetscCall(MatDestroy(&r->from.P));
  PetscCall(PetscFree(r->from.iterations));
  PetscCall(GramCheckpointClear(&r->found));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* ---- sweeps */

static PetscErrorCode RequestSweep(void *ctx, GramRequest *request)
{
  PetscFunctionBegin;
  PetscCall(Request(&((GramSweepResume *)ctx)->saving, request));
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode SaveSweep(void *ctx, const GramSweepState *state)
{
  GramSweepResume *r    = (GramSweepResume *)ctx;
  GramCheckpoint   c    = r->of;
  PetscReal        step = state->step, iterations = 0;
  PetscReal       *nothing;
  PetscInt         first, n;

  PetscFunctionBegin;
  PetscCall(GramShare(c.comm, r->n, &first, &n));
  PetscCall(PetscCalloc1(GramAt(n, r->dim, 0), &nothing));
  c.x          = state->x + GramAt(first, r->dim, 0);
  c.p          = nothing; /* a descent has no directions to keep */
  c.rz         = &step;
  c.iterations = &iterations;
  c.total      = state->sweeps;
  c.n_history  = state->sweeps * GRAM_SWEEP_HISTORY;
  c.history    = state->history;
  PetscCall(Write(&r->saving, &c));
  PetscCall(PetscFree(nothing));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* while weights are solved for, what there is to save is the nodes */
static PetscErrorCode SaveNodes(void *ctx, const GramSolveState *state)
{
  GramSweepResume *r = (GramSweepResume *)ctx;

  PetscFunctionBegin;
  (void)state;
  PetscCall(SaveSweep(r, r->state));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* the nodes of a checkpoint, on every rank */
static PetscErrorCode AdoptSweep(GramSweepResume *r, const GramCheckpoint *c, GramSweepState *state)
{
  PetscFunctionBegin;
  PetscCall(GramAllGather(c->comm, c->n_local, r->dim, c->x, state->x));
  state->step      = c->rz[0];
  state->sweeps    = c->n_history / GRAM_SWEEP_HISTORY;
  state->allocated = state->sweeps;
  PetscCall(PetscMalloc1(c->n_history, &state->history));
  PetscCall(PetscArraycpy(state->history, c->history, c->n_history));
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramSweepResumeCreate(MPI_Comm comm, const char *output, const GramSweep *sweep,
                                     const char *what, GramSweepState *state, GramSweepResume *r)
{
  GramCheckpoint found;
  PetscInt       first, n;
  PetscBool      restart, is;
  PetscReal      bounds[2 * GRAM_MAX_DIM];
  uint64_t       start, box, stretch, samples, charges;

  PetscFunctionBegin;
  PetscCall(PetscMemzero(r, sizeof *r));
  r->dim   = sweep->dim;
  r->n     = sweep->n;
  r->state = state;
  PetscCall(FromOptions(comm, output, &r->saving, &restart));
  PetscCall(GramShare(comm, sweep->n, &first, &n));
  r->of = (GramCheckpoint){.comm = comm, .n = sweep->n, .n_local = n, .q = 1, .numbers = sweep->dim};
  PetscCall(GramChecksum(comm, n, sweep->dim, state->x + GramAt(first, sweep->dim, 0), &start));
  PetscCall(PetscArraycpy(bounds, sweep->lower, GRAM_MAX_DIM));
  PetscCall(PetscArraycpy(bounds + GRAM_MAX_DIM, sweep->upper, GRAM_MAX_DIM));
  PetscCall(GramChecksum(MPI_COMM_SELF, 2, GRAM_MAX_DIM, bounds, &box));
  PetscCall(GramChecksum(MPI_COMM_SELF, 1, GRAM_MAX_DIM, sweep->stretch, &stretch));
  PetscCall(GramChecksum(MPI_COMM_SELF, sweep->n_samples, sweep->dim, sweep->samples, &samples));
  PetscCall(GramChecksum(MPI_COMM_SELF, sweep->n_samples, 1, sweep->charges, &charges));
  (void)snprintf(r->of.data, sizeof r->of.data, "start %016llx, measure %016llx", (unsigned long long)start,
                 (unsigned long long)(box + 3 * stretch + 5 * samples + 7 * charges));
  PetscCall(PetscStrncpy(r->of.kernel, what, sizeof r->of.kernel));
  r->control = (GramSweepControl){.request = RequestSweep, .save = SaveSweep, .ctx = r};
  r->solve   = (GramSolveControl){.request = RequestSweep, .save = SaveNodes, .ctx = r};
  found      = r->of;
  PetscCall(Look(&r->saving, restart, "sweeps", &found, &is));
  if (is) {
    PetscCall(AdoptSweep(r, &found, state));
    PetscCall(GramCheckpointClear(&found));
  }
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramSweepResumeDestroy(GramSweepResume *r, PetscBool done)
{
  PetscFunctionBegin;
  PetscCall(Leave(&r->saving, done));
  PetscFunctionReturn(PETSC_SUCCESS);
}
