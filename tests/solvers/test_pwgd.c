static const char help[] = "Backgrounds of closed form against heat kernels and plain quadrature; energies "
                           "and gradients of a descent against loops.\n";

#include <petscdt.h>

#include "../check.h"
#include "pwgd.h"

enum { POINTS = 32 }; /* of Gauss and Legendre: to rounding for the boxes below */

/* Corner by corner of the box at x, where it is cut in 2^d: with y - x = s v, v[k] = a[k], v[j] = a[j] t_j, the integrals over
   s are known and those over t smooth. */
static PetscErrorCode ByQuadrature(PetscInt dim, const PetscReal lower[], const PetscReal upper[],
                                   const PetscReal x[], PetscReal field[], PetscReal *potential)
{
  PetscReal node[POINTS], weight[POINTS], a[4], v[4];
  PetscInt  rows = 1;

  PetscFunctionBegin;
  PetscCall(PetscDTGaussQuadrature(POINTS, 0, 1, node, weight));
  for (PetscInt k = 1; k < dim; k++) rows *= POINTS;
  *potential = 0;
  for (PetscInt k = 0; k < dim; k++) field[k] = 0;
  for (PetscInt corner = 0; corner < 1 << dim; corner++) {
    for (PetscInt k = 0; k < dim; k++) a[k] = corner >> k & 1 ? upper[k] - x[k] : lower[k] - x[k];
    for (PetscInt k = 0; k < dim * rows; k++) {
      PetscReal w = 1, r2 = 0, r;

      for (PetscInt j = 0, rest = k / dim; j < dim; j++) {
        v[j] = a[j];
        w *= PetscAbsReal(a[j]);
        if (j != k % dim) {
          v[j] *= node[rest % POINTS];
          w *= weight[rest % POINTS];
          rest /= POINTS;
        }
        r2 += v[j] * v[j];
      }
      if (w == 0) continue; /* x is on that wall */
      r = PetscSqrtReal(r2);
      for (PetscInt j = 0; j < dim; j++) field[j] -= w * v[j] / PetscPowReal(r, (PetscReal)dim);
      *potential += w * (dim == 2 ? 0.25 - PetscLogReal(r) / 2
                                  : PetscPowReal(r, (PetscReal)(2 - dim)) / (2 * (PetscReal)(dim - 2)));
    }
  }
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* random boxes of sides near 1, and places in them, some on walls and in corners */
static PetscErrorCode Backgrounds(PetscInt dim, PetscInt places)
{
  PetscReal lower[4], upper[4], x[4], field[4], other[4], V, W, slope, middle, ahead[4], behind[4], h = 1e-4;

  PetscFunctionBegin;
  for (PetscInt i = 0; i < places; i++) {
    const uint64_t seed = (uint64_t)(16 * i);
    PetscReal      size = 0, divergence = 0;

    for (PetscInt k = 0; k < dim; k++) {
      const PetscReal u = CheckUniform(3, seed + (uint64_t)k);

      lower[k] = CheckUniform(1, seed + (uint64_t)k) - 0.5;
      upper[k] = lower[k] + 0.7 + 0.6 * CheckUniform(2, seed + (uint64_t)k);
      x[k]     = i == 0 || (i == 1 && k == 0) ? upper[k] : lower[k] + (0.3 + 0.4 * u) * (upper[k] - lower[k]);
    }
    GramBoxField(dim, lower, upper, x, field, &V);
    PetscCall(ByQuadrature(dim, lower, upper, x, other, &W));
    for (PetscInt k = 0; k < dim; k++) size = PetscMax(size, upper[k] - lower[k]);
    for (PetscInt k = 0; k < dim; k++)
      CHECK(PetscAbsReal(field[k] - other[k]) <= 1e-12 * size,
            "d = %d, place %d: field %d is %.16g, not %.16g", (int)dim, (int)i, (int)k, field[k], other[k]);
    CHECK(PetscAbsReal(V - W) <= 1e-12 * size, "d = %d, place %d: potential %.16g, not %.16g", (int)dim,
          (int)i, V, W);
    GramBoxFieldByHeat(dim, lower, upper, x, other, &W);
    for (PetscInt k = 0; k < dim; k++)
      CHECK(PetscAbsReal(field[k] - other[k]) <= 1e-12 * size,
            "d = %d, place %d: field %d is %.16g, by heat %.16g", (int)dim, (int)i, (int)k, field[k],
            other[k]);
    CHECK(dim == 2 || PetscAbsReal(V - W) <= 1e-12 * size, "d = %d, place %d: potential %.16g, by heat %.16g",
          (int)dim, (int)i, V, W);
    if (i < 2) continue; /* no place beyond a wall */
    for (PetscInt k = 0; k < dim; k++) {
      middle = x[k];
      x[k]   = middle + h;
      GramBoxField(dim, lower, upper, x, ahead, &V);
      x[k] = middle - h;
      GramBoxField(dim, lower, upper, x, behind, &W);
      x[k]  = middle;
      slope = (V - W) / (2 * h);
      divergence += (ahead[k] - behind[k]) / (2 * h);
      CHECK(PetscAbsReal(field[k] + slope) <= 100 * h * h,
            "d = %d, place %d: field %d is %.10g, -slope %.10g", (int)dim, (int)i, (int)k, field[k], -slope);
    }
    CHECK(PetscAbsReal(divergence - GramSphereArea(dim)) <= 100 * h * h,
          "d = %d, place %d: divergence %.10g, not %.10g", (int)dim, (int)i, divergence, GramSphereArea(dim));
  }
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* E of the nodes x, by loops */
static PetscReal Energy(const GramSweep *s, const PetscReal x[])
{
  const PetscReal n = (PetscReal)s->n;
  PetscReal       lower[4], upper[4], field[4], V, energy = 0, volume = 1, background = 1;

  for (PetscInt k = 0; k < s->dim; k++) volume *= s->upper[k] - s->lower[k];
  for (PetscInt k = 0; k < s->dim; k++) {
    const PetscReal wider = s->gap * PetscPowReal(volume / n, 1 / (PetscReal)s->dim);

    lower[k] = s->lower[k] - wider;
    upper[k] = s->upper[k] + wider;
    background *= upper[k] - lower[k];
  }
  for (PetscInt i = 0; i < s->n; i++) {
    for (PetscInt j = 0; j < s->n; j++) {
      PetscReal r2 = 0;

      for (PetscInt k = 0; k < s->dim; k++) r2 += PetscSqr(x[i * s->dim + k] - x[j * s->dim + k]);
      if (j != i)
        energy += (s->dim == 2 ? -PetscLogReal(r2) / 2
                               : PetscPowReal(r2, (PetscReal)(2 - s->dim) / 2) / (PetscReal)(s->dim - 2)) /
                  (n * n);
    }
    GramBoxField(s->dim, lower, upper, x + i * s->dim, field, &V);
    energy -= 2 / n * V / background;
  }
  return energy;
}

/* Stops after so many sweeps. */
static PetscErrorCode Request(void *ctx, GramRequest *request)
{
  PetscFunctionBegin;
  *request = --*(int *)ctx ? GRAM_GO_ON : GRAM_STOP;
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode Save(void *ctx, const GramSweepState *state)
{
  PetscFunctionBegin;
  CHECK(!*(int *)ctx && state->stopped, "saved with %d sweeps to go", *(int *)ctx);
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode Start(const GramSweep *s, GramSweepState *state)
{
  PetscFunctionBegin;
  *state = (GramSweepState){.step = 0.9};
  PetscCall(PetscMalloc1(s->n * s->dim, &state->x));
  for (PetscInt i = 0; i < s->n * s->dim; i++)
    state->x[i] =
        s->lower[i % s->dim] + CheckUniform(7, (uint64_t)i) * (s->upper[i % s->dim] - s->lower[i % s->dim]);
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode Destroy(GramSweepState *state)
{
  PetscFunctionBegin;
  PetscCall(PetscFree(state->history));
  PetscCall(PetscFree(state->x));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* What the history says of a sweep's beginning is so; sweeps go downhill; stopped and gone on with is as not stopped; all
   ranks have the same. */
static PetscErrorCode Descents(GramBackend backend, PetscInt dim, PetscInt blocks, PetscReal gap)
{
  GramSweep        s       = {.dim       = dim,
                              .n         = dim < 4 ? 57 : 19,
                              .lower     = {-1, 0.5, 3, 0},
                              .upper     = {0.5, 1.5, 5, 1},
                              .blocks    = blocks,
                              .gap       = gap,
                              .tolerance = 0.02};
  int              to_go   = 3;
  GramSweepControl control = {.request = Request, .save = Save, .ctx = &to_go};
  GramSweepState   whole, part;
  PetscReal        largest = 0, h = 1e-6, last;

  PetscFunctionBegin;
  for (PetscInt k = dim; k < 4; k++) s.lower[k] = s.upper[k] = 0;
  PetscCall(Start(&s, &whole));
  last = Energy(&s, whole.x);
  for (PetscInt i = 0; i < s.n; i++) {
    PetscReal length2 = 0;

    for (PetscInt k = 0; k < dim; k++) {
      const PetscReal x = whole.x[i * dim + k];
      PetscReal       E;

      whole.x[i * dim + k] = x + h;
      E                    = Energy(&s, whole.x);
      whole.x[i * dim + k] = x - h;
      length2 += PetscSqr((E - Energy(&s, whole.x)) / (2 * h));
      whole.x[i * dim + k] = x;
    }
    largest = PetscMax(largest, PetscSqrtReal(length2));
  }
  for (s.max_sweeps = 1; s.max_sweeps <= 80 && !whole.converged; s.max_sweeps++) {
    PetscReal *now;

    PetscCall(GramPwgd(PETSC_COMM_WORLD, backend, &s, NULL, &whole));
    CHECK(whole.sweeps == s.max_sweeps, "%d sweeps, not %d", (int)whole.sweeps, (int)s.max_sweeps);
    now = whole.history + (whole.sweeps - 1) * GRAM_SWEEP_HISTORY;
    if (blocks == 1) {
      CHECK(PetscAbsReal(now[GRAM_SWEEP_ENERGY] - last) <= 1e-12, "d = %d, sweep %d: energy %.16g, not %.16g",
            (int)dim, (int)whole.sweeps, now[GRAM_SWEEP_ENERGY], last);
      if (whole.sweeps == 1) CHECK_CLOSE("largest gradient", now[GRAM_SWEEP_GRADIENT], largest, 1e-6);
    }
    if (now[GRAM_SWEEP_MOVE] > 0.05)
      CHECK(Energy(&s, whole.x) < last, "d = %d, sweep %d: uphill from %.16g", (int)dim, (int)whole.sweeps,
            last);
    last = Energy(&s, whole.x);
  }
  CHECK(whole.converged && whole.sweeps > 5, "d = %d, %d blocks: %s after %d sweeps", (int)dim, (int)blocks,
        whole.converged ? "converged" : "not converged", (int)whole.sweeps);

  PetscCall(Start(&s, &part));
  PetscCall(GramPwgd(PETSC_COMM_WORLD, backend, &s, &control, &part));
  CHECK(part.stopped && !part.converged && part.sweeps == 3, "%s after %d sweeps",
        part.stopped ? "stopped" : "not stopped", (int)part.sweeps);
  PetscCall(GramPwgd(PETSC_COMM_WORLD, backend, &s, NULL, &part));
  CHECK(part.sweeps == whole.sweeps && part.converged && !part.stopped, "gone on with: %d sweeps, not %d",
        (int)part.sweeps, (int)whole.sweeps);
  for (PetscInt i = 0; i < s.n * dim; i++)
    CHECK(part.x[i] == whole.x[i], "gone on with: x[%d] = %.17g, not %.17g", (int)i, part.x[i], whole.x[i]);
  PetscCallMPI(MPI_Bcast(part.x, (PetscMPIInt)(s.n * dim), MPIU_REAL, 0, PETSC_COMM_WORLD));
  for (PetscInt i = 0; i < s.n * dim; i++)
    CHECK(part.x[i] == whole.x[i], "x[%d] = %.17g, on the first rank %.17g", (int)i, whole.x[i], part.x[i]);
  PetscCall(Destroy(&part));
  PetscCall(Destroy(&whole));
  PetscFunctionReturn(PETSC_SUCCESS);
}

int main(int argc, char **argv)
{
  GramBackend backend;
  PetscMPIInt size;

  PetscCall(PetscInitialize(&argc, &argv, NULL, help));
  PetscCallMPI(MPI_Comm_size(PETSC_COMM_WORLD, &size));
  if (size == 1) {
    PetscCall(Backgrounds(2, 20));
    PetscCall(Backgrounds(3, 8));
    PetscCall(Backgrounds(4, 3));
  }
  PetscCall(GramBackendCreate(PETSC_COMM_WORLD, "cpu", GRAM_DOUBLE, &backend));
  PetscCall(Descents(backend, 2, 1, 0.2));
  PetscCall(Descents(backend, 3, 1, 0));
  PetscCall(Descents(backend, 4, 1, 0.1));
  PetscCall(Descents(backend, 2, 57, 0));
  PetscCall(Descents(backend, 3, 4, 0.2));
  PetscCall(GramBackendDestroy(&backend));
  PetscCall(PetscFinalize());
  return check_failures != 0;
}
