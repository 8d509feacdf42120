#include <math.h>

#include "progress.h"
#include "pwgd.h"

#define TRUST  0.25 /* of the nearest distance: the longest step */
#define WINDOW 5    /* sweeps without progress after which theta is halved, */
#define LONG   0.03 /* where moves are longer than this in spacings */
#define SOFT \
  0.5 /* spacings that a sample is smeared over at least: nodes are not to follow the noise of samples */
#define FLOOR 0.05 /* of the mean density: what a step takes for less */

/* What a rank tells of each of its nodes: where it is now, and */
enum { MOVE2, ENERGY, GRADIENT2, TOLD };

/* Everything in units of the spacing h, so that neighbours are near 1. */
typedef struct {
  MPI_Comm         comm;
  GramBackend      backend;
  const GramSweep *sweep;
  PetscInt         dim, n;
  PetscReal        unit[GRAM_MAX_DIM];                               /* h stretch */
  PetscReal        h, area;                                          /* |S| */
  PetscReal        lower[GRAM_MAX_DIM], upper[GRAM_MAX_DIM];         /* where nodes may be */
  PetscReal        box_lower[GRAM_MAX_DIM], box_upper[GRAM_MAX_DIM]; /* the background, */
  PetscReal        density;                                          /* its number density */
  PetscReal       *samples, *charges;                                /* in place of it; charges of sum n */
  PetscReal        softening2;
  PetscReal       *u, *told;      /* [n][dim], [n][dim + TOLD] on every rank */
  PetscReal       *force, *cloud; /* [rows][dim + GRAM_COULOMB_EXTRA] of this rank's rows */
  PetscMPIInt      rank, size, *counts, *starts;
} Descent;

static PetscErrorCode DescentCreate(MPI_Comm comm, GramBackend backend, const GramSweep *sweep,
                                    const GramSweepState *state, Descent *d)
{
  const PetscInt dim = sweep->dim, n = sweep->n, rows = n;
  PetscReal      volume = 1, background = 1;

  PetscFunctionBegin;
  *d = (Descent){.comm = comm, .backend = backend, .sweep = sweep, .dim = dim, .n = n};
  PetscCallMPI(MPI_Comm_rank(comm, &d->rank));
  PetscCallMPI(MPI_Comm_size(comm, &d->size));
  d->area = GramSphereArea(dim);
  for (PetscInt k = 0; k < dim; k++) volume *= sweep->upper[k] - sweep->lower[k];
  d->h = PetscPowReal(volume / (PetscReal)n, 1 / (PetscReal)dim);
  for (PetscInt k = 0; k < dim; k++) {
    d->unit[k]      = sweep->stretch[k] > 0 ? d->h * sweep->stretch[k] : d->h;
    d->lower[k]     = sweep->lower[k] / d->unit[k];
    d->upper[k]     = sweep->upper[k] / d->unit[k];
    d->box_lower[k] = d->lower[k] - sweep->gap;
    d->box_upper[k] = d->upper[k] + sweep->gap;
    background *= d->box_upper[k] - d->box_lower[k];
  }
  d->density = (PetscReal)n / background;
  PetscCall(PetscMalloc2(GramAt(n, dim, 0), &d->u, GramAt(n, dim + TOLD, 0), &d->told));
  PetscCall(PetscMalloc2(GramAt(rows / d->size + 1, dim + GRAM_COULOMB_EXTRA, 0), &d->force,
                         GramAt(rows / d->size + 1, dim + GRAM_COULOMB_EXTRA, 0), &d->cloud));
  PetscCall(PetscMalloc2(d->size, &d->counts, d->size, &d->starts));
  for (PetscInt i = 0; i < n * dim; i++) d->u[i] = state->x[i] / d->unit[i % dim];
  if (sweep->n_samples) {
    PetscCall(PetscMalloc2(GramAt(sweep->n_samples, dim, 0), &d->samples, sweep->n_samples, &d->charges));
    for (PetscInt i = 0; i < sweep->n_samples * dim; i++)
      d->samples[i] = sweep->samples[i] / d->unit[i % dim];
    for (PetscInt i = 0; i < sweep->n_samples; i++) d->charges[i] = sweep->charges[i] * (PetscReal)n;
    d->softening2 =
        PetscMax(SOFT * SOFT, PetscPowReal((PetscReal)n / (PetscReal)sweep->n_samples, 2 / (PetscReal)dim));
  }
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode DescentDestroy(Descent *d)
{
  PetscFunctionBegin;
  PetscCall(PetscFree2(d->samples, d->charges));
  PetscCall(PetscFree2(d->counts, d->starts));
  PetscCall(PetscFree2(d->force, d->cloud));
  PetscCall(PetscFree2(d->u, d->told));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* Where node u goes, by the forces of the other nodes and of the background: to told */
static void Step(const Descent *d, PetscReal theta, const PetscReal *u, const PetscReal *force,
                 const PetscReal *cloud, PetscReal *told)
{
  const PetscInt  dim     = d->dim;
  const PetscReal nearest = PetscSqrtReal(force[dim + GRAM_COULOMB_NEAREST]);
  PetscReal       field[GRAM_MAX_DIM], potential, density, length2 = 0, gradient2 = 0, cut;

  if (d->samples) {
    for (PetscInt k = 0; k < dim; k++) field[k] = cloud[k];
    potential = cloud[dim + GRAM_COULOMB_ENERGY];
    density   = PetscMax(cloud[dim + GRAM_COULOMB_NEAREST], FLOOR * d->density);
  } else {
    GramBoxField(dim, d->box_lower, d->box_upper, u, field, &potential);
    for (PetscInt k = 0; k < dim; k++) field[k] *= d->density;
    potential *= d->density;
    density = d->density;
  }
  for (PetscInt k = 0; k < dim; k++) {
    const PetscReal net = force[k] - field[k], step = theta * 2 / (d->area * density) * net;

    gradient2 += net * net;
    told[k] = (u[k] <= d->lower[k] && step < 0) || (u[k] >= d->upper[k] && step > 0) ? 0 : step;
    length2 += told[k] * told[k];
  }
  cut = length2 > 0 ? PetscMin(1, TRUST * nearest / PetscSqrtReal(length2)) : 0;
  for (PetscInt k = 0; k < dim; k++)
    told[k] = PetscMin(PetscMax(u[k] + cut * told[k], d->lower[k]), d->upper[k]);
  told += dim;
  told[MOVE2]     = length2 * cut * cut;
  told[ENERGY]    = force[dim + GRAM_COULOMB_ENERGY] - 2 * potential;
  told[GRADIENT2] = gradient2;
}

/* rows first ... first + n move, each rank an even share of them */
static PetscErrorCode MoveBlock(Descent *d, PetscReal theta, PetscInt first, PetscInt n)
{
  const PetscInt width = d->dim + TOLD, extra = d->dim + GRAM_COULOMB_EXTRA, share = n / d->size,
                 more = n % d->size, rows = share + (d->rank < more),
                 row = first + d->rank * share + PetscMin(d->rank, more);
  const PetscReal *u = d->u + GramAt(row, d->dim, 0);

  PetscFunctionBegin;
  PetscCall(GramCoulomb(d->backend, d->dim, rows, u, d->n, d->u, NULL, d->force));
  if (d->samples)
    PetscCall(GramCoulomb(d->backend, d->dim, rows, u, d->sweep->n_samples, d->samples,
                          &(GramCloud){d->charges, d->softening2}, d->cloud));
  for (PetscInt i = 0; i < rows; i++)
    Step(d, theta, u + GramAt(i, d->dim, 0), d->force + GramAt(i, extra, 0), d->cloud + GramAt(i, extra, 0),
         d->told + GramAt(row + i, width, 0));
  for (PetscMPIInt r = 0; r < d->size; r++) {
    PetscCall(PetscMPIIntCast((share + (r < more)) * width, d->counts + r));
    PetscCall(PetscMPIIntCast((r * share + PetscMin(r, more)) * width, d->starts + r));
  }
  PetscCallMPI(MPI_Allgatherv(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, d->told + GramAt(first, width, 0),
                              d->counts, d->starts, MPIU_REAL, d->comm));
  for (PetscInt i = first; i < first + n; i++)
    PetscCall(PetscArraycpy(d->u + GramAt(i, d->dim, 0), d->told + GramAt(i, width, 0), d->dim));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* in the units of x; every rank adds up all nodes in the same order */
static void Account(const Descent *d, PetscReal theta, PetscReal entry[GRAM_SWEEP_HISTORY])
{
  const PetscReal n     = (PetscReal)d->n;
  PetscReal       move2 = 0, energy = 0, gradient2 = 0;

  for (PetscInt i = 0; i < d->n; i++) {
    const PetscReal *told = d->told + GramAt(i, d->dim + TOLD, d->dim);

    move2 += told[MOVE2];
    energy += told[ENERGY];
    gradient2 = PetscMax(gradient2, told[GRADIENT2]);
  }
  energy /= n * n;
  if (d->dim == 2) energy -= PetscLogReal(d->h) * ((n - 1) / n - 2); /* log of lengths in h */
  else energy *= PetscPowReal(d->h, (PetscReal)(2 - d->dim));
  entry[GRAM_SWEEP_GRADIENT] =
      2 / (n * n) * PetscSqrtReal(gradient2) * PetscPowReal(d->h, (PetscReal)(1 - d->dim));
  entry[GRAM_SWEEP_ENERGY] = energy;
  entry[GRAM_SWEEP_MOVE]   = PetscSqrtReal(move2 / n) / theta;
}

static PetscErrorCode Room(GramSweepState *state)
{
  PetscReal *history;

  PetscFunctionBegin;
  if (state->sweeps < state->allocated) PetscFunctionReturn(PETSC_SUCCESS);
  state->allocated = 2 * state->sweeps + 64;
  PetscCall(PetscMalloc1(GramAt(state->allocated, GRAM_SWEEP_HISTORY, 0), &history));
  PetscCall(PetscArraycpy(history, state->history, GramAt(state->sweeps, GRAM_SWEEP_HISTORY, 0)));
  PetscCall(PetscFree(state->history));
  state->history = history;
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode Tell(const GramSweep *sweep, GramSweepState *state,
                           const PetscReal entry[GRAM_SWEEP_HISTORY])
{
  char note[96];

  PetscFunctionBegin;
  PetscCall(Room(state));
  PetscCall(PetscArraycpy(state->history + GramAt(state->sweeps, GRAM_SWEEP_HISTORY, 0), entry,
                          GRAM_SWEEP_HISTORY));
  state->sweeps++;
  PetscCall(PetscSNPrintf(note, sizeof note, "sweep %" PetscInt_FMT ", gradient %.2e, move %.2e spacings",
                          state->sweeps, (double)entry[GRAM_SWEEP_GRADIENT], (double)entry[GRAM_SWEEP_MOVE]));
  PetscCall(GramProgressUpdate((PetscReal)state->sweeps / (PetscReal)sweep->max_sweeps, note));
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode Ask(const GramSweepControl *control, GramSweepState *state)
{
  GramRequest request = GRAM_GO_ON;

  PetscFunctionBegin;
  if (control && !state->converged) PetscCall(control->request(control->ctx, &request));
  state->stopped = (PetscBool)(request == GRAM_STOP);
  if (request != GRAM_GO_ON) PetscCall(control->save(control->ctx, state));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* the last sweep there is decides, whatever run it belongs to */
static PetscBool Reached(const GramSweepState *state, PetscInt column, PetscReal tolerance)
{
  return (PetscBool)(state->sweeps &&
                     state->history[GramAt(state->sweeps - 1, GRAM_SWEEP_HISTORY, column)] < tolerance);
}

/* Are the shortest moves of the last WINDOW sweeps, long ones, hardly shorter than of the WINDOW before? Then theta is too
   large for this configuration. Asked at its own sweeps only, whatever run they belong to. */
static PetscBool Stalls(const GramSweepState *state)
{
  PetscReal shortest[2] = {PETSC_MAX_REAL, PETSC_MAX_REAL};

  if (!state->sweeps || state->sweeps % (2 * WINDOW)) return PETSC_FALSE;
  for (PetscInt k = 0; k < 2 * WINDOW; k++) {
    const PetscReal move =
        state->history[GramAt(state->sweeps - 2 * WINDOW + k, GRAM_SWEEP_HISTORY, GRAM_SWEEP_MOVE)];

    shortest[k / WINDOW] = PetscMin(shortest[k / WINDOW], move);
  }
  return (PetscBool)(shortest[1] > LONG && shortest[1] > 0.9 * shortest[0]);
}

PetscErrorCode GramPwgd(MPI_Comm comm, GramBackend backend, const GramSweep *sweep,
                        const GramSweepControl *control, GramSweepState *state)
{
  PetscReal entry[GRAM_SWEEP_HISTORY];
  Descent   d;

  PetscFunctionBegin;
  PetscCall(DescentCreate(comm, backend, sweep, state, &d));
  state->stopped   = PETSC_FALSE;
  state->converged = Reached(state, GRAM_SWEEP_MOVE, sweep->tolerance);
  PetscCall(GramProgressBegin("sweeps", 0));
  while (!state->converged && !state->stopped && state->sweeps < sweep->max_sweeps) {
    for (PetscInt b = 0; b < sweep->blocks; b++) {
      const PetscInt first = (PetscInt)((PetscInt64)b * sweep->n / sweep->blocks),
                     end   = (PetscInt)((PetscInt64)(b + 1) * sweep->n / sweep->blocks);

      PetscCall(MoveBlock(&d, state->step, first, end - first));
    }
    Account(&d, state->step, entry);
    PetscCall(Tell(sweep, state, entry));
    for (PetscInt i = 0; i < sweep->n; i++) {
      for (PetscInt k = 0; k < d.dim; k++) { /* x of a wall is the wall's, not h times its multiple */
        const PetscReal u = d.u[GramAt(i, d.dim, k)];

        state->x[GramAt(i, d.dim, k)] = u <= d.lower[k]   ? sweep->lower[k]
                                        : u >= d.upper[k] ? sweep->upper[k]
                                                          : u * d.unit[k];
        d.u[GramAt(i, d.dim, k)] = state->x[GramAt(i, d.dim, k)] / d.unit[k]; /* as another run would begin */
      }
    }
    state->converged = Reached(state, GRAM_SWEEP_MOVE, sweep->tolerance);
    if (sweep->adapt && Stalls(state)) state->step /= 2;
    PetscCall(Ask(control, state));
  }
  PetscCall(GramProgressEnd());
  PetscCall(DescentDestroy(&d));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* ---- the published method */

typedef struct {
  PetscInt         dim, n;
  const GramSweep *sweep;
  const GramPaper *paper;
  GramMean         mean;
  PetscReal        a2;        /* of the kernel s^2 exp(-a2 r^2) */
  PetscReal        amplitude; /* s^2 */
  PetscReal        volume;    /* Lebesgue measure of the box */
  PetscReal        unit;      /* 2 Gamma(d/2 - 1) */
  PetscReal        weight;    /* n^-p */
} Published;

/* G and grad G = slope z at z of |z|^2 = r2 > 0 */
static void Pair(const Published *p, PetscReal r2, PetscReal *value, PetscReal *slope)
{
  if (p->paper->gaussian) {
    *value = p->amplitude * PetscExpReal(-p->a2 * r2);
    *slope = -2 * p->a2 * *value;
  } else if (p->dim == 2) {
    *value = -2 * PetscLogReal(r2);
    *slope = -4 / r2;
  } else {
    *value = p->unit * PetscPowReal(r2, (PetscReal)(2 - p->dim) / 2);
    *slope = (PetscReal)(2 - p->dim) * *value / r2;
  }
}

/* R and its derivative in coordinate k */
static void Barrier(const Published *p, PetscInt k, PetscReal x, PetscReal *value, PetscReal *slope)
{
  const PetscReal below = x - (p->sweep->lower[k] - p->paper->barrier_margin),
                  above = p->sweep->upper[k] + p->paper->barrier_margin - x;

  *value = p->dim == 2 ? -PetscLogReal(below * above) : 1 / below + 1 / above;
  *slope = p->dim == 2 ? -1 / below + 1 / above : -1 / (below * below) + 1 / (above * above);
}

/* g at node i; energy: its share of E */
static void Gradient(const Published *p, const PetscReal *x, PetscInt i, PetscReal g[], PetscReal *energy)
{
  const PetscInt   dim = p->dim;
  const PetscReal  n   = (PetscReal)p->n;
  const PetscReal *xi  = x + GramAt(i, dim, 0);
  PetscReal        z, dz[GRAM_MAX_DIM], value, slope;

  *energy = 0;
  for (PetscInt k = 0; k < dim; k++) g[k] = 0;
  for (PetscInt j = 0; j < p->n; j++) {
    const PetscReal *xj = x + GramAt(j, dim, 0);
    PetscReal        r2 = 0;

    if (j == i) continue;
    for (PetscInt k = 0; k < dim; k++) r2 += (xi[k] - xj[k]) * (xi[k] - xj[k]);
    Pair(p, r2, &value, &slope);
    *energy += value / (n * n);
    for (PetscInt k = 0; k < dim; k++) g[k] += 2 / (n * n) * slope * (xi[k] - xj[k]);
  }
  (void)GramMeanAt(p->mean, 1, xi, &z, dz);
  *energy -= 2 / n * p->volume * z;
  for (PetscInt k = 0; k < dim; k++) {
    g[k] -= 2 / n * p->volume * dz[k];
    if (p->paper->gaussian) continue;
    Barrier(p, k, xi[k], &value, &slope);
    *energy += p->weight * value;
    g[k] += p->weight * slope;
  }
}

static void SweepPublished(const Published *p, PetscReal gamma0, PetscReal *x,
                           PetscReal entry[GRAM_SWEEP_HISTORY])
{
  const PetscInt dim = p->dim;
  PetscReal      g[GRAM_MAX_DIM], energy, move2 = 0, largest2 = 0;

  for (PetscInt i = 0; i < p->n; i++) {
    PetscReal *xi = x + GramAt(i, dim, 0), gamma = gamma0, length2 = 0;

    Gradient(p, x, i, g, &energy);
    for (PetscInt k = 0; k < dim; k++) {
      length2 += g[k] * g[k];
      if (g[k] > 0) gamma = PetscMin(gamma, (xi[k] - p->sweep->lower[k]) / g[k]);
      if (g[k] < 0) gamma = PetscMin(gamma, (xi[k] - p->sweep->upper[k]) / g[k]);
    }
    for (PetscInt k = 0; k < dim; k++) xi[k] -= gamma * g[k];
    largest2 = PetscMax(largest2, length2);
    move2 += gamma * gamma * length2;
  }
  entry[GRAM_SWEEP_ENERGY] = 0;
  for (PetscInt i = 0; i < p->n; i++) {
    Gradient(p, x, i, g, &energy);
    entry[GRAM_SWEEP_ENERGY] += energy;
  }
  entry[GRAM_SWEEP_GRADIENT] = PetscSqrtReal(largest2);
  entry[GRAM_SWEEP_MOVE] =
      PetscSqrtReal(move2 / (PetscReal)p->n) / PetscPowReal(p->volume / (PetscReal)p->n, 1 / (PetscReal)dim);
}

PetscErrorCode GramPwgdPaper(MPI_Comm comm, const GramKernel *kernel, GramMean mean, const GramSweep *sweep,
                             const GramPaper *paper, const GramSweepControl *control, GramSweepState *state)
{
  const PetscInt dim = sweep->dim, n = sweep->n;
  PetscReal      entry[GRAM_SWEEP_HISTORY];
  PetscMPIInt    rank, numbers;
  Published      p = {.dim       = dim,
                      .n         = n,
                      .sweep     = sweep,
                      .paper     = paper,
                      .mean      = mean,
                      .a2        = 0.5 / (kernel->length_scale[0] * kernel->length_scale[0]),
                      .amplitude = kernel->amplitude * kernel->amplitude,
                      .volume    = 1,
                      .unit      = dim > 2 ? 2 * tgamma(0.5 * (double)dim - 1) : 4,
                      .weight    = PetscPowReal((PetscReal)n, -paper->barrier_power)};

  PetscFunctionBegin;
  for (PetscInt k = 0; k < dim; k++) p.volume *= sweep->upper[k] - sweep->lower[k];
  PetscCallMPI(MPI_Comm_rank(comm, &rank));
  PetscCall(PetscMPIIntCast(n * dim, &numbers));
  state->stopped   = PETSC_FALSE;
  state->converged = Reached(state, GRAM_SWEEP_GRADIENT, sweep->tolerance);
  PetscCall(GramProgressBegin("sweeps", 0));
  while (!state->converged && !state->stopped && state->sweeps < sweep->max_sweeps) {
    if (!rank) SweepPublished(&p, state->step, state->x, entry);
    PetscCallMPI(MPI_Bcast(state->x, numbers, MPIU_REAL, 0, comm));
    PetscCallMPI(MPI_Bcast(entry, GRAM_SWEEP_HISTORY, MPIU_REAL, 0, comm));
    PetscCall(GramProgressAdd((PetscReal)n * (PetscReal)n));
    PetscCall(Tell(sweep, state, entry));
    state->converged = Reached(state, GRAM_SWEEP_GRADIENT, sweep->tolerance);
    PetscCall(Ask(control, state));
  }
  PetscCall(GramProgressEnd());
  PetscFunctionReturn(PETSC_SUCCESS);
}
