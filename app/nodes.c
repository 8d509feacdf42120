/* gramarye nodes: quadrature nodes, their weights and their worst-case error. */
#define _GNU_SOURCE /* qsort_r */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "design.h"
#include "pivchol.h"
#include "polish.h"
#include "progress.h"
#include "result.h"
#include "resume.h"
#include "rule.h"
#include "share.h"
#include "verbs.h"

/* -nodes_method; the sequences of design.h besides */
typedef enum { METHOD_PWGD, METHOD_SBQ, METHOD_PGREEDY, METHOD_DESIGN } Method;

/* What is asked for. */
typedef struct {
  Method     method;
  PetscInt   n, dim;
  GramDesign design;                    /* of the nodes, or of the start */
  char       start[PETSC_MAX_PATH_LEN]; /* a file in its place, or "" */
  PetscInt   candidates[GRAM_MAX_DIM];  /* of sbq and pgreedy */
  PetscBool  paper;
  GramPaper  published;
  GramSweep  sweep;
  PetscReal  step;
  PetscInt   polish;
  char       name[16], what[512]; /* of the method; how nodes are moved, for checkpoints */
} Plan;

/* The nodes and how they came about. */
typedef struct {
  GramSweepState state;         /* x [n][dim] on every rank, and of sweeps the history */
  PetscInt       n;             /* nodes there are */
  PetscInt       polished;      /* iterations */
  PetscReal      before, after; /* wce^2 with optimal weights and the ridge, as polishing has it */
  PetscReal     *reduction;     /* [n] of sbq: what each node took off wce^2; else NULL */
} Result;

/* ---- options */

static PetscErrorCode Word(MPI_Comm comm, const char *option, const char *help, const char *const choices[],
                           int n, int fallback, int *choice)
{
  char      value[64], list[128] = "";
  PetscBool set;

  PetscFunctionBegin;
  for (int i = 0; i < n; i++) {
    if (i) PetscCall(PetscStrlcat(list, ", ", sizeof list));
    PetscCall(PetscStrlcat(list, choices[i], sizeof list));
  }
  PetscCall(PetscStrncpy(value, choices[fallback], sizeof value));
  PetscOptionsBegin(comm, "nodes_", "Nodes", NULL);
  PetscCall(PetscOptionsString(option, help, list, value, value, sizeof value, &set));
  PetscOptionsEnd();
  for (*choice = 0; *choice < n && strcmp(value, choices[*choice]) != 0;) ++*choice;
  GramCheckInput(*choice < n, comm, "nodes.%s: '%s' is none of %s", option + 1, value, list);
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* a number, or "auto" */
static PetscErrorCode AutoReal(MPI_Comm comm, const char *option, const char *help, PetscReal *value,
                               PetscBool *set)
{
  char  text[64] = "auto";
  char *end;

  PetscFunctionBegin;
  PetscOptionsBegin(comm, "nodes_", "Nodes", NULL);
  PetscCall(PetscOptionsString(option, help, NULL, text, text, sizeof text, set));
  PetscOptionsEnd();
  *set = (PetscBool)(*set && strcmp(text, "auto") != 0);
  if (!*set) PetscFunctionReturn(PETSC_SUCCESS);
  *value = strtod(text, &end);
  GramCheckInput(*text && !*end && *value > 0 && !PetscIsInfReal(*value), comm,
                 "nodes.%s: '%s' is neither auto nor a number > 0", option + 1, text);
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode SizeFromOptions(MPI_Comm comm, Plan *p)
{
#define METHOD_NAME(UPPER, name) name,
  static const char *const methods[] = {"pwgd", "sbq", "pgreedy", GRAM_DESIGN_LIST(METHOD_NAME)};
#undef METHOD_NAME
  PetscInt  seed = 0;
  PetscBool set, found;
  int       method;

  PetscFunctionBegin;
  PetscCall(Word(comm, "-method", "How nodes are made", methods, (int)(sizeof methods / sizeof *methods), 0,
                 &method));
  PetscCall(PetscStrncpy(p->name, methods[method], sizeof p->name));
  p->method = method < METHOD_DESIGN ? (Method)method : METHOD_DESIGN;
  p->dim    = 2;
  PetscOptionsBegin(comm, "nodes_", "Nodes", NULL);
  PetscCall(PetscOptionsInt("-size", "How many", NULL, p->n, &p->n, &set));
  PetscCall(PetscOptionsInt("-dim", "Coordinates", NULL, p->dim, &p->dim, NULL));
  PetscCall(PetscOptionsInt("-polish", "Iterations on the worst-case error itself", NULL, p->polish,
                            &p->polish, NULL));
  PetscCall(PetscOptionsInt("-seed", "Of the sequence", NULL, seed, &seed, NULL));
  PetscOptionsEnd();
  GramCheckInput(set, comm, "nodes.size: how many nodes are wanted?");
  GramCheckInput(p->n > 0, comm, "nodes.size: %" PetscInt_FMT " is not > 0", p->n);
  GramCheckInput(p->dim >= 1 && p->dim <= GRAM_MAX_DIM, comm,
                 "nodes.dim: %" PetscInt_FMT " is not in 1 ... %d", p->dim, GRAM_MAX_DIM);
  GramCheckInput(p->method != METHOD_PWGD || p->dim >= 2, comm,
                 "nodes.dim: 1, but nodes.method pwgd needs 2 or more");
  GramCheckInput((PetscReal)p->n * (PetscReal)p->dim < (PetscReal)PETSC_MPI_INT_MAX / 4, comm,
                 "nodes.size: %" PetscInt_FMT " nodes of %" PetscInt_FMT " coordinates are too many", p->n,
                 p->dim);
  GramCheckInput(p->polish >= 0, comm, "nodes.polish: %" PetscInt_FMT " is not >= 0", p->polish);
  GramCheckInput(seed >= 0, comm, "nodes.seed: %" PetscInt_FMT " is not >= 0", seed);
  p->design.dim  = p->dim;
  p->design.seed = (uint64_t)seed;
  PetscCall(GramDesignFind(p->name, &p->design.kind, &found));
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode StartFromOptions(MPI_Comm comm, PetscBool sampled, Plan *p)
{
  char      start[PETSC_MAX_PATH_LEN];
  PetscBool named;

  PetscFunctionBegin;
  if (p->method != METHOD_PWGD) PetscFunctionReturn(PETSC_SUCCESS);
  PetscCall(PetscStrncpy(start,
                         sampled                           ? "random"
                         : p->dim <= GRAM_DESIGN_SOBOL_DIM ? "sobol"
                                                           : "halton",
                         sizeof start));
  PetscOptionsBegin(comm, "nodes_", "Nodes", NULL);
  PetscCall(PetscOptionsString("-start", "halton, sobol, random, or an HDF5 file with x", NULL, start, start,
                               sizeof start, NULL));
  PetscOptionsEnd();
  PetscCall(GramDesignFind(start, &p->design.kind, &named));
  if (!named) PetscCall(PetscStrncpy(p->start, start, sizeof p->start));
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscBool OneLengthScale(const GramKernel *kernel, PetscInt dim)
{
  for (PetscInt k = 1; k < dim; k++) {
    if (kernel->length_scale[k] != kernel->length_scale[0]) return PETSC_FALSE;
  }
  return PETSC_TRUE;
}

/* the published method, with what its program takes for granted */
static PetscErrorCode PaperFromOptions(MPI_Comm comm, const GramKernel *kernel, const GramMeasure *measure,
                                       PetscInt dim, GramPaper *paper)
{
  const PetscBool one = OneLengthScale(kernel, dim);
  PetscBool       set, gaussian;

  PetscFunctionBegin;
  paper->barrier_power  = dim == 2 ? 0.5 : 1.25;
  paper->barrier_margin = dim == 2 ? 0.5 : 0.12;
  PetscOptionsBegin(comm, "nodes_", "The published regulariser", NULL);
  PetscCall(PetscOptionsReal("-barrier_power", "p of its weight n^-p", NULL, paper->barrier_power,
                             &paper->barrier_power, &set));
  PetscCall(PetscOptionsReal("-barrier_margin", "It is of the box widened by this", NULL,
                             paper->barrier_margin, &paper->barrier_margin, &set));
  PetscOptionsEnd();
  GramCheckInput(paper->barrier_margin > 0, comm, "nodes.barrier_margin: %.6g is not > 0",
                 (double)paper->barrier_margin);
  GramCheckInput(!PetscIsInfOrNanReal(paper->barrier_power), comm,
                 "nodes.barrier_power: not a finite number");
  PetscCall(PetscStrcmp(kernel->type, "gaussian", &gaussian));
  GramCheckInput(gaussian && one, comm,
                 "nodes.field: paper is of the gaussian kernel with one length scale, kernel.type is %s%s",
                 kernel->type, gaussian ? " with several" : "");
  GramCheckInput(!measure->n_samples, comm,
                 "nodes.field: paper is of the uniform measure, nodes.measure is samples");
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode SweepFromOptions(MPI_Comm comm, const GramKernel *kernel, const GramMeasure *measure,
                                       const GramRuleOptions *options, Plan *p)
{
  static const char *const energies[] = {"fundamental", "gaussian"}, *const fields[] = {"matched", "paper"},
                           *const sweeps[] = {"jacobi", "block", "sequential"};
  GramSweep                      *s        = &p->sweep;
  PetscInt                        blocks   = PetscMin(4, p->n);
  PetscBool                       set;
  const PetscBool                 one  = OneLengthScale(kernel, p->dim);
  PetscReal                       mean = 0;
  int                             energy, field, sweep;

  PetscFunctionBegin;
  if (p->method != METHOD_PWGD) PetscFunctionReturn(PETSC_SUCCESS);
  *s = (GramSweep){.dim = p->dim, .n = p->n};
  PetscCall(PetscArraycpy(s->lower, measure->lower, GRAM_MAX_DIM));
  PetscCall(PetscArraycpy(s->upper, measure->upper, GRAM_MAX_DIM));
  PetscCall(Word(comm, "-energy", "Of pairs of nodes", energies, 2, 0, &energy));
  PetscCall(Word(comm, "-field", "What holds the nodes together", fields, 2, energy, &field));
  GramCheckInput(!energy || field, comm,
                 "nodes.energy: gaussian is part of the published method, nodes.field: paper");
  PetscCall(Word(comm, "-sweep", "Which nodes move at once", sweeps, 3, field ? 2 : 0, &sweep));
  GramCheckInput(!field || sweep == 2, comm,
                 "nodes.sweep: %s, but nodes.field: paper moves nodes one by one: sequential", sweeps[sweep]);
  p->paper              = (PetscBool)field;
  p->published.gaussian = (PetscBool)energy;
  if (field) PetscCall(PaperFromOptions(comm, kernel, measure, p->dim, &p->published));
  p->step       = field ? (p->dim == 2 ? 0.1 : 1) : 0.9;
  s->tolerance  = field ? 1e-4 : 0.01;
  s->max_sweeps = field ? (p->dim == 2 ? 1000 : 10000) : 60;
  s->gap        = field || measure->n_samples || options->method == GRAM_WEIGHTS_EQUAL ? 0 : 0.2;
  PetscCall(
      AutoReal(comm, "-step", "theta of the natural step; gamma_0 of the published one", &p->step, &set));
  s->adapt = (PetscBool)!set;
  PetscOptionsBegin(comm, "nodes_", "The descent", NULL);
  PetscCall(PetscOptionsReal("-gap", "The background reaches so many spacings beyond the box", NULL, s->gap,
                             &s->gap, &set));
  PetscCall(PetscOptionsReal(
      "-tolerance", "Of the rms natural move in spacings; of the published method: of the largest gradient",
      NULL, s->tolerance, &s->tolerance, NULL));
  PetscCall(PetscOptionsInt("-max_sweeps", "At most", NULL, s->max_sweeps, &s->max_sweeps, NULL));
  PetscCall(PetscOptionsInt("-blocks", "Of nodes.sweep: block", NULL, blocks, &blocks, NULL));
  PetscOptionsEnd();
  GramCheckInput(s->gap >= 0 && s->gap < 0.5, comm, "nodes.gap: %.6g is not in 0 ... 0.5", (double)s->gap);
  GramCheckInput(!(s->gap > 0 && measure->n_samples), comm,
                 "nodes.gap: %.6g, but a measure of samples has no walls", (double)s->gap);
  GramCheckInput(s->tolerance >= 0, comm, "nodes.tolerance: %.6g is not >= 0", (double)s->tolerance);
  GramCheckInput(s->max_sweeps >= 0, comm, "nodes.max_sweeps: %" PetscInt_FMT " is not >= 0", s->max_sweeps);
  GramCheckInput(blocks >= 1 && blocks <= p->n, comm,
                 "nodes.blocks: %" PetscInt_FMT " is not in 1 ... %" PetscInt_FMT, blocks, p->n);
  s->blocks = sweep == 0 ? 1 : sweep == 1 ? blocks : p->n;
  for (PetscInt k = 0; k < p->dim; k++) mean += PetscLogReal(kernel->length_scale[k]) / (PetscReal)p->dim;
  for (PetscInt k = 0; k < p->dim && !field; k++)
    s->stretch[k] = one ? 1 : kernel->length_scale[k] / PetscExpReal(mean);
  s->n_samples = measure->n_samples;
  s->samples   = measure->x;
  s->charges   = measure->charge;
  (void)snprintf(p->what, sizeof p->what,
                 "descent %s, %s, %d blocks, step %.6g, gap %.6g, barrier %.6g %.6g, length scale %.17g, "
                 "amplitude %.17g",
                 fields[field], energies[energy], (int)s->blocks, (double)p->step, (double)s->gap,
                 (double)p->published.barrier_power, (double)p->published.barrier_margin,
                 field ? (double)kernel->length_scale[0] : 0, field ? (double)kernel->amplitude : 0);
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* a grid with end points: 50 x 50 in the plane, 20 a coordinate in space, else some ten times the nodes */
static PetscErrorCode CandidatesFromOptions(MPI_Comm comm, Plan *p)
{
  PetscInt  n     = GRAM_MAX_DIM;
  PetscReal total = 1, some = PetscMax(2500, 10 * (PetscReal)p->n);
  PetscBool set;

  PetscFunctionBegin;
  if (p->method != METHOD_SBQ && p->method != METHOD_PGREEDY) PetscFunctionReturn(PETSC_SUCCESS);
  for (PetscInt k = 0; k < p->dim; k++)
    p->candidates[k] = PetscMax(p->dim == 3 ? 20 : 2,
                                (PetscInt)PetscCeilReal(PetscPowReal(some, 1 / (PetscReal)p->dim) - 1e-9));
  PetscOptionsBegin(comm, "nodes_", "Candidates", NULL);
  PetscCall(PetscOptionsIntArray("-candidates", "Grid points of each coordinate, end points included", NULL,
                                 p->candidates, &n, &set));
  PetscOptionsEnd();
  GramCheckInput(!set || n == p->dim, comm,
                 "nodes.candidates: %" PetscInt_FMT " numbers, but nodes.dim is %" PetscInt_FMT, n, p->dim);
  for (PetscInt k = 0; k < p->dim; k++) {
    GramCheckInput(p->candidates[k] > 0, comm, "nodes.candidates: %" PetscInt_FMT " is not > 0",
                   p->candidates[k]);
    total *= (PetscReal)p->candidates[k];
  }
  GramCheckInput(total < (PetscReal)PETSC_MAX_INT, comm, "nodes.candidates: %.6g points are too many",
                 (double)total);
  GramCheckInput(total >= (PetscReal)p->n, comm,
                 "nodes.candidates: %.6g points, fewer than nodes.size %" PetscInt_FMT, (double)total, p->n);
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* that this rank takes for the nodes: of sweeps on every rank, of greedy choices the factor of its candidates */
static PetscLogDouble Bytes(MPI_Comm comm, const Plan *p)
{
  PetscLogDouble candidates = 1;
  PetscMPIInt    size       = 1;

  (void)MPI_Comm_size(comm, &size);
  for (PetscInt k = 0; k < p->dim; k++) candidates *= p->candidates[k];
  if (p->method == METHOD_SBQ || p->method == METHOD_PGREEDY)
    return 8 * ((candidates / size + 510) * (p->n + 63.0) + candidates * (p->dim + 4.0));
  return 8 * (5.0 * p->dim + 3) * p->n;
}

/* ---- nodes */

/* samples by their coordinates, then by row: equal ones stand together */
static int ByPlace(const void *a, const void *b, void *ctx)
{
  const GramMeasure *m = (const GramMeasure *)ctx;
  const PetscInt     i = *(const PetscInt *)a, j = *(const PetscInt *)b;

  for (PetscInt k = 0; k < m->dim; k++) {
    const PetscReal x = m->x[GramAt(i, m->dim, k)], y = m->x[GramAt(j, m->dim, k)];

    if (x != y) return x < y ? -1 : 1;
  }
  return i < j ? -1 : i > j;
}

static PetscBool SamePlace(const GramMeasure *m, PetscInt i, PetscInt j)
{
  for (PetscInt k = 0; k < m->dim; k++) {
    if (m->x[GramAt(i, m->dim, k)] != m->x[GramAt(j, m->dim, k)]) return PETSC_FALSE;
  }
  return PETSC_TRUE;
}

/* samples drawn with probability in proportion to their weight, none twice: those that a race of exponential clocks takes first */
static PetscErrorCode Draw(MPI_Comm comm, const GramMeasure *measure, const Plan *p, PetscReal *x)
{
  const PetscInt n = measure->n_samples;
  PetscReal     *clock, weight;
  PetscInt      *row, some = 0;

  PetscFunctionBegin;
  PetscCall(PetscMalloc2(n, &clock, n, &row));
  for (PetscInt i = 0; i < n; i++) row[i] = i;
  qsort_r(row, (size_t)n, sizeof *row, ByPlace, (void *)measure);
  for (PetscInt i = 0, end; i < n; i = end) { /* a place has the weight of all that are there */
    weight = 0;
    for (end = i; end < n && SamePlace(measure, row[i], row[end]); end++) weight += measure->charge[row[end]];
    if (!(weight > 0)) continue;
    clock[some] = -PetscLogReal(1 - GramUniform(p->design.seed, (uint64_t)row[i])) / weight;
    row[some++] = row[i];
  }
  GramCheckInput(some >= p->n, comm,
                 "nodes.start: random takes samples, of which there are %" PetscInt_FMT
                 " in different places, and nodes.size is %" PetscInt_FMT,
                 some, p->n);
  PetscCall(PetscSortRealWithArrayInt(some, clock, row));
  for (PetscInt i = 0; i < p->n; i++)
    PetscCall(PetscArraycpy(x + GramAt(i, p->dim, 0), measure->x + GramAt(row[i], p->dim, 0), p->dim));
  PetscCall(PetscFree2(clock, row));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* where the nodes begin, on every rank; the published method begins within the box */
static PetscErrorCode Start(MPI_Comm comm, const GramMeasure *measure, Plan *p, PetscReal *x)
{
  GramDataset d;
  GramPoints  X;
  PetscInt    pair[2];

  PetscFunctionBegin;
  for (PetscInt k = 0; k < p->dim; k++) {
    const PetscReal margin = p->paper ? 0.1 * (measure->upper[k] - measure->lower[k]) : 0;

    p->design.lower[k] = measure->lower[k] + margin;
    p->design.upper[k] = measure->upper[k] - margin;
  }
  if (!p->start[0] && measure->n_samples && p->design.kind == GRAM_DESIGN_RANDOM) {
    PetscCall(Draw(comm, measure, p, x));
    PetscFunctionReturn(PETSC_SUCCESS);
  }
  if (!p->start[0]) {
    GramCheckInput(p->design.kind != GRAM_DESIGN_SOBOL || p->dim <= GRAM_DESIGN_SOBOL_DIM, comm,
                   "nodes.%s: the sobol sequence goes up to %d coordinates, nodes.dim is %" PetscInt_FMT,
                   p->method == METHOD_PWGD ? "start" : "method", GRAM_DESIGN_SOBOL_DIM, p->dim);
    PetscCall(GramDesignPoints(&p->design, 0, p->n, x));
    PetscFunctionReturn(PETSC_SUCCESS);
  }
  PetscCall(GramDatasetReadPoints(comm, "nodes.start", p->start, NULL, &d));
  GramCheckInput(d.n == p->n && d.dim == p->dim, comm,
                 "nodes.start: '%s' holds %" PetscInt_FMT " x %" PetscInt_FMT
                 " numbers, but nodes.size is %" PetscInt_FMT " and nodes.dim %" PetscInt_FMT,
                 p->start, d.n, d.dim, p->n, p->dim);
  PetscCall(GramAllGather(comm, d.n_local, d.dim, d.x, x));
  for (PetscInt i = 0; i < p->n; i++) {
    for (PetscInt k = 0; k < p->dim; k++)
      GramCheckInput(
          x[GramAt(i, p->dim, k)] >= measure->lower[k] && x[GramAt(i, p->dim, k)] <= measure->upper[k], comm,
          "nodes.start: row %" PetscInt_FMT " of '%s' is %.6g in coordinate %" PetscInt_FMT
          ", outside of %.6g ... %.6g",
          i, p->start, (double)x[GramAt(i, p->dim, k)], k, (double)measure->lower[k],
          (double)measure->upper[k]);
  }
  PetscCall(GramPointsCreate(comm, d.dim, d.n_local, d.x, NULL, 1, &X));
  PetscCall(GramPointsFindDuplicate(X, pair));
  GramCheckInput(pair[0] < 0, comm,
                 "nodes.start: rows %" PetscInt_FMT " and %" PetscInt_FMT " of '%s' are the same point",
                 pair[0], pair[1], p->start);
  PetscCall(GramPointsDestroy(&X));
  PetscCall(GramDatasetClear(&d));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* pivots of a partial Cholesky factor of the candidates' matrix */
static PetscErrorCode Greedy(MPI_Comm comm, const Plan *p, const GramMeasure *measure,
                             const GramKernel *kernel, GramBackend backend, GramMean mean, PetscInt block,
                             Result *result)
{
  GramDesign       grid = p->design;
  PetscInt         first, n, n_curve, start, total = 1;
  const PetscInt  *pivots;
  const PetscReal *reductions;
  PetscReal       *x, *z, *number, *place;
  PetscInt        *label, *index;
  GramPoints       X;
  GramPivChol      factor;
  Mat              A;

  PetscFunctionBegin;
  grid.kind = GRAM_DESIGN_GRID;
  for (PetscInt k = 0; k < p->dim; k++) {
    grid.lower[k]  = measure->lower[k];
    grid.upper[k]  = measure->upper[k];
    grid.counts[k] = p->candidates[k];
    total *= p->candidates[k];
  }
  PetscCall(GramShare(comm, total, &first, &n));
  PetscCall(PetscMalloc2(GramAt(n, p->dim, 0), &x, n, &number));
  PetscCall(GramDesignPoints(&grid, first, n, x));
  for (PetscInt i = 0; i < n; i++) number[i] = (PetscReal)(first + i);
  PetscCall(GramPointsCreate(comm, p->dim, n, x, kernel->length_scale, block, &X));
  PetscCall(GramPointsGetSizes(X, NULL, NULL, NULL, &n_curve, &start));
  PetscCall(PetscMalloc3(n_curve, &z, n_curve, &place, n_curve, &label));
  PetscCall(GramPointsToCurve(X, 1, number, place));
  for (PetscInt i = 0; i < n_curve; i++) label[i] = (PetscInt)place[i];
  PetscCall(GramMeanEvaluate(mean, X, z, NULL));
  PetscCall(GramMatCreate(X, kernel, backend, &A));
  PetscCall(GramPivCholCreate(A, &factor));
  PetscCall(
      GramPivCholSetRule(factor, p->method == METHOD_SBQ ? GRAM_PIVOT_MEAN : GRAM_PIVOT_LARGEST, label, z));
  PetscCall(GramPivCholReserve(factor, p->n));
  result->n = 0;
  PetscCall(GramProgressBegin(p->name, 0));
  for (PetscInt r = 0; result->n == r && r < p->n;) { /* there are fewer once the candidates are exhausted */
    char note[64];

    r = PetscMin(r + 16, p->n);
    PetscCall(GramPivCholGrow(factor, r, 0));
    PetscCall(GramPivCholGetFactor(factor, &result->n, NULL, NULL));
    PetscCall(PetscSNPrintf(note, sizeof note, "%" PetscInt_FMT " nodes", r));
    PetscCall(GramProgressUpdate((PetscReal)r * (PetscReal)r / ((PetscReal)p->n * (PetscReal)p->n), note));
  }
  PetscCall(GramProgressEnd());
  PetscCall(GramPivCholGetPivots(factor, &pivots, NULL));
  PetscCall(PetscMalloc1(result->n, &index));
  for (PetscInt j = 0; j < result->n; j++) {
    const PetscInt at = pivots[j] - start;

    index[j] = at >= 0 && at < n_curve ? label[at] : -1;
  }
  PetscCallMPI(MPI_Allreduce(MPI_IN_PLACE, index, (PetscMPIInt)result->n, MPIU_INT, MPI_MAX, comm));
  for (PetscInt j = 0; j < result->n; j++)
    PetscCall(GramDesignPoints(&grid, index[j], 1, result->state.x + GramAt(j, p->dim, 0)));
  PetscCall(PetscFree(index));
  if (p->method == METHOD_SBQ) {
    PetscCall(GramPivCholGetReductions(factor, &reductions));
    PetscCall(PetscMalloc1(result->n, &result->reduction));
    PetscCall(PetscArraycpy(result->reduction, reductions, result->n));
  }
  PetscCall(GramPivCholDestroy(&factor));
  PetscCall(MatDestroy(&A));
  PetscCall(PetscFree3(z, place, label));
  PetscCall(GramPointsDestroy(&X));
  PetscCall(PetscFree2(x, number));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* ---- the file and the summary */

static PetscErrorCode HistoryWrite(GramH5 file, MPI_Comm comm, const Result *result, PetscReal twice)
{
  static const char *const names[] = {"history/max_gradient", "history/energy", "history/move"};
  const GramSweepState    *s       = &result->state;
  const PetscInt           n       = PetscMax(s->sweeps, result->n);
  PetscMPIInt              rank;
  PetscReal               *column;

  PetscFunctionBegin;
  PetscCallMPI(MPI_Comm_rank(comm, &rank));
  PetscCall(PetscMalloc1(n, &column));
  for (PetscInt k = 0; k < GRAM_SWEEP_HISTORY && s->history; k++) {
    for (PetscInt i = 0; i < s->sweeps; i++) column[i] = s->history[GramAt(i, GRAM_SWEEP_HISTORY, k)];
    PetscCall(GramH5WriteRows(file, names[k], 1, rank ? 0 : s->sweeps, 1, column));
  }
  if (result->reduction) {
    for (PetscInt i = 0; i < result->n; i++) column[i] = twice -= result->reduction[i];
    PetscCall(GramH5WriteRows(file, "history/wce_squared", 1, rank ? 0 : result->n, 1, column));
  }
  PetscCall(PetscFree(column));
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode Summarize(MPI_Comm comm, const Plan *p, const Result *result, const GramRun *run,
                                const GramRule *rule, const char *path)
{
  const GramSweepState *s = &result->state;

  PetscFunctionBegin;
  if (p->method == METHOD_PWGD) {
    const PetscReal *last = s->sweeps ? s->history + GramAt(s->sweeps - 1, GRAM_SWEEP_HISTORY, 0) : NULL;

    PetscCall(GramSay(comm, "sweeps", "%" PetscInt_FMT ", %s%s%.3g, energy %.9g", s->sweeps,
                      s->converged ? "converged" : "NOT CONVERGED",
                      p->paper ? ", largest gradient " : ", rms move in spacings ",
                      last ? (double)last[p->paper ? GRAM_SWEEP_GRADIENT : GRAM_SWEEP_MOVE] : NAN,
                      last ? (double)last[GRAM_SWEEP_ENERGY] : NAN));
    if (!s->converged)
      PetscCall(PetscFPrintf(comm, stderr,
                             "gramarye: warning: nodes.max_sweeps: %" PetscInt_FMT
                             " sweeps did not reach nodes.tolerance %.3g\n",
                             s->sweeps, (double)p->sweep.tolerance));
  }
  if (p->polish)
    PetscCall(GramSay(comm, "polish",
                      "%" PetscInt_FMT " iterations, wce^2 with optimal weights from %.3g to %.3g",
                      result->polished, (double)result->before, (double)result->after));
  if (result->n < p->n)
    PetscCall(PetscFPrintf(comm, stderr,
                           "gramarye: warning: nodes.size: %" PetscInt_FMT
                           " nodes, the candidates have no more that are independent in double\n",
                           result->n));
  PetscCall(GramRuleSay(comm, rule));
  PetscCall(GramSay(comm, "time", "%.2f s: read %.2f, nodes %.2f, weights %.2f", run->total_seconds,
                    run->read_seconds, run->setup_seconds, run->solve_seconds));
  PetscCall(GramSay(comm, "output", "%s", path));
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramVerbNodes(MPI_Comm comm, GramOutcome *outcome)
{
  Plan            plan = {0}; /* -nodes_* */
  GramMeasure     measure;    /* what is integrated against */
  GramKernel      kernel, bare;
  GramRuleOptions options;  /* -weights_* */
  GramSchedule    schedule; /* how products are spread over the ranks */
  GramBackend     backend;
  GramMean        mean; /* z and I */
  Result          result = {0};
  GramSweepResume resume = {0};
  GramPoints      X; /* [N, dim] nodes along the curve */
  GramRule        rule;
  GramRun         run;
  GramH5          file;
  PetscReal      *w = NULL; /* [n_local] on the curve */
  PetscReal      *nodes;    /* [n][dim] on every rank: those of the result, or polished */
  PetscReal       twice;
  PetscInt        first, n, n_curve;
  char            path[PETSC_MAX_PATH_LEN], line[256];

  PetscFunctionBegin;
  PetscCall(GramRunBegin(&run, "nodes"));

  /* what is asked for: -nodes_*, -kernel_*, -ridge_*, -weights_* */
  PetscCall(GramOutputFromOptions(comm, path, sizeof path));
  PetscCall(GramScheduleFromOptions(comm, &schedule));
  PetscCall(SizeFromOptions(comm, &plan));
  PetscCall(GramKernelSetFromOptions(comm, plan.dim, &kernel));
  PetscCall(GramMeasureFromOptions(comm, plan.dim, schedule.block, &measure));
  PetscCall(GramRuleFromOptions(comm, plan.n, (PetscBool)(measure.n_samples > 0), &kernel, &options));
  PetscCall(StartFromOptions(comm, (PetscBool)(measure.n_samples > 0), &plan));
  PetscCall(SweepFromOptions(comm, &kernel, &measure, &options, &plan));
  PetscCall(CandidatesFromOptions(comm, &plan));
  PetscCall(GramBackendCreateFromOptions(comm, &backend));
  PetscCall(GramKernelView(&kernel, line, sizeof line));
  PetscCall(GramSay(comm, "problem",
                    "%" PetscInt_FMT " nodes in %" PetscInt_FMT " dimensions by %s, weights %s", plan.n,
                    plan.dim, plan.name, GramWeightsMethodName(options.method)));
  PetscCall(GramSay(comm, "kernel", "%s", line));
  PetscCall(GramRuleEstimate(comm, backend, &kernel, &options, plan.n, Bytes(comm, &plan), &run));
  PetscCall(GramH5CheckSpace(comm, path, "output.file",
                             GramRuleBytes(plan.n, plan.dim, 3 * plan.sweep.max_sweeps)));
  PetscCall(GramMeasureMean(comm, &measure, &kernel, backend, &mean));
  PetscCall(GramMeanGetDouble(mean, &twice));
  PetscCall(PetscMalloc1(GramAt(plan.n, plan.dim, 0), &result.state.x));
  result.n          = plan.n;
  result.state.step = plan.step;
  PetscCall(GramRunLap(&run.read_seconds));

  /* the nodes; sweeps can be stopped and run again: -checkpoint_* */
  if (plan.method == METHOD_SBQ || plan.method == METHOD_PGREEDY)
    PetscCall(Greedy(comm, &plan, &measure, &kernel, backend, mean, schedule.block, &result));
  else PetscCall(Start(comm, &measure, &plan, result.state.x));
  if (plan.method == METHOD_PWGD) {
    PetscCall(GramSweepResumeCreate(comm, path, &plan.sweep, plan.what, &result.state, &resume));
    if (plan.paper)
      PetscCall(
          GramPwgdPaper(comm, &kernel, mean, &plan.sweep, &plan.published, &resume.control, &result.state));
    else PetscCall(GramPwgd(comm, backend, &plan.sweep, &resume.control, &result.state));
  }
  nodes        = result.state.x;
  rule.stopped = result.state.stopped;
  if (plan.polish && !rule.stopped) { /* a checkpoint keeps those before: another run polishes them again */
    PetscCall(PetscMalloc1(GramAt(result.n, plan.dim, 0), &nodes));
    PetscCall(PetscArraycpy(nodes, result.state.x, GramAt(result.n, plan.dim, 0)));
    bare = kernel;
    if (options.automatic) bare.alpha = 0; /* what it takes at least */
    PetscCall(GramProgressBegin("polish", 0));
    PetscCall(GramPolish(comm, &bare, measure.exact, schedule.block, mean, measure.lower, measure.upper,
                         plan.polish, result.n, nodes, plan.method == METHOD_PWGD ? &resume.solve : NULL,
                         &result.before, &result.after, &result.polished, &rule.stopped));
    PetscCall(GramProgressEnd());
    if (rule.stopped) PetscCall(resume.solve.save(resume.solve.ctx, NULL));
  }
  PetscCall(GramRunLap(&run.setup_seconds));

  /* their weights: of many nodes -solve_method, -ksp_*, -pc_* */
  PetscCall(GramShare(comm, result.n, &first, &n));
  PetscCall(GramPointsCreate(comm, plan.dim, n, nodes + GramAt(first, plan.dim, 0), kernel.length_scale,
                             schedule.block, &X));
  PetscCall(GramPointsGetSizes(X, NULL, NULL, NULL, &n_curve, NULL));
  PetscCall(PetscMalloc1(n_curve, &w));
  if (!rule.stopped)
    PetscCall(GramQuadratureWeights(X, &kernel, backend, mean, options.method, options.sum_to_one,
                                    options.automatic, plan.method == METHOD_PWGD ? &resume.solve : NULL, w,
                                    &rule));
  PetscCall(GramRunLap(&run.solve_seconds));
  if (rule.stopped) {
    *outcome = GRAM_STOPPED;
    PetscCall(GramSay(comm, "stopped",
                      "by a signal after %" PetscInt_FMT " sweeps; the same command goes on from %s",
                      result.state.sweeps, resume.saving.path));
    goto done;
  }

  /* the result: -output_* */
  run.method            = plan.name;
  run.converged         = (PetscBool)(rule.converged && result.n == plan.n &&
                              (plan.method != METHOD_PWGD || result.state.converged));
  run.iterations        = rule.iterations;
  run.relative_residual = rule.relative_residual;
  run.reason            = run.converged || !rule.converged ? rule.reason
                          : result.n < plan.n              ? "exhausted"
                                                           : "max_sweeps";
  PetscCall(GramRunEnd(comm, backend, &run));
  PetscCall(GramH5Create(comm, path, "output.file",
                         GramRuleBytes(result.n, plan.dim, 3 * result.state.sweeps), &file));
  kernel.alpha = rule.alpha;
  PetscCall(GramRuleWrite(file, X, n, nodes + GramAt(first, plan.dim, 0), w, &kernel, &rule));
  PetscCall(HistoryWrite(file, comm, &result, twice));
  PetscCall(GramMeasureWrite(file, &measure));
  PetscCall(GramRunWrite(file, comm, &run));
  PetscCall(GramH5WriteInt(file, "run", "sweeps", result.state.sweeps));
  PetscCall(GramH5WriteInt(file, "run", "polished", result.polished));
  PetscCall(GramH5Close(&file));
  PetscCall(Summarize(comm, &plan, &result, &run, &rule, path));
  *outcome = run.converged ? GRAM_DONE : GRAM_UNCONVERGED;

done:
  if (plan.method == METHOD_PWGD) PetscCall(GramSweepResumeDestroy(&resume, (PetscBool)!rule.stopped));
  PetscCall(PetscFree(w));
  PetscCall(GramRunClear(&run));
  PetscCall(GramPointsDestroy(&X));
  PetscCall(GramMeanDestroy(&mean));
  if (nodes != result.state.x) PetscCall(PetscFree(nodes));
  PetscCall(PetscFree(result.state.x));
  PetscCall(PetscFree(result.state.history));
  PetscCall(PetscFree(result.reduction));
  PetscCall(GramBackendDestroy(&backend));
  PetscCall(GramMeasureClear(&measure));
  PetscFunctionReturn(PETSC_SUCCESS);
}
