#include <petscksp.h>
#include <petsctime.h>

#include "direct.h"
#include "krylov.h"
#include "lrv.h"
#include "memory.h"
#include "pcg.h"
#include "residual.h"
#include "solve.h"
#include "tail.h"

#define REFINEMENTS  3    /* of a direct solution */
#define INVERSE_MOST 5000 /* iterations of a column of the inverse */
#define RITZ_EVERY   8 /* Ritz values take some hundred operations an iteration: so often while these double */

/* largest over the columns of norm[r] / scale[r] */
static PetscReal LargestRatio(PetscInt q, const PetscReal *norm, const PetscReal *scale)
{
  PetscReal largest = 0;

  for (PetscInt r = 0; r < q; r++) {
    if (norm[r] != 0) largest = PetscMax(largest, norm[r] / scale[r]); /* b = 0 is answered by x = 0 */
    if (PetscIsInfOrNanReal(norm[r])) return INFINITY;
  }
  return largest;
}

struct _p_GramSolver {
  GramSolveMethod method;
  GramKernel      kernel;
  Mat             A, A_true; /* borrowed */
  GramTail        tail;      /* NULL without one; then B is A, and B_true A_true */
  Mat             B, B_true;
  KSP             ksp;
  GramDirect      direct;       /* NULL before it is needed */
  PetscBool       factored, lu; /* there is a factor; by LU */
  PetscReal       least;        /* Ritz value of M^-1 B seen so far, 1 at most; 0: none yet */
};

static PetscErrorCode Factor(GramSolver s)
{
  PetscFunctionBegin;
  if (s->direct) PetscFunctionReturn(PETSC_SUCCESS);
  PetscCall(GramDirectCreate(s->B, PETSC_FALSE, &s->direct, &s->factored));
  if (s->factored) PetscFunctionReturn(PETSC_SUCCESS);
  PetscCall(GramDirectDestroy(&s->direct));
  PetscCall(GramDirectCreate(s->B, PETSC_TRUE, &s->direct, &s->factored));
  s->lu = PETSC_TRUE;
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* Cholesky, then x += A^-1 (y - A x) while that halves the residual. */
static PetscErrorCode SolveDirect(GramSolver s, GramResidual *residual, Mat Y, Mat C, PetscInt q,
                                  GramReport *report)
{
  PetscReal *r_before, *x_before, before = PETSC_INFINITY, now;
  Mat        R, C_before;

  PetscFunctionBegin;
  PetscCall(PetscMalloc1(REFINEMENTS + 2, &report->history));
  report->history[report->n_history++] = 1; /* x = 0 */
  PetscCall(PetscTimeSubtract(&report->setup_seconds));
  PetscCall(Factor(s));
  PetscCall(PetscTimeAdd(&report->setup_seconds));
  report->lu = s->lu;
  if (s->lu) PetscCall(PetscStrncpy(report->reason, "indefinite", sizeof report->reason));
  PetscCall(PetscMalloc2(q, &r_before, q, &x_before));
  PetscCall(MatDuplicate(Y, MAT_COPY_VALUES, &R));
  PetscCall(MatDuplicate(Y, MAT_DO_NOT_COPY_VALUES, &C_before));
  for (PetscInt step = 0; s->factored && step <= REFINEMENTS; step++) {
    PetscCall(GramDirectSolve(s->direct, R, R));
    PetscCall(MatAXPY(C, 1, R, SAME_NONZERO_PATTERN)); /* x += A^-1 r */
    PetscCall(GramResidualUpdate(residual, q, NULL, Y, C, R));
    now                                  = LargestRatio(q, residual->r, residual->b);
    report->history[report->n_history++] = now;
    if (now > before) { /* that step did harm */
      PetscCall(MatCopy(C_before, C, SAME_NONZERO_PATTERN));
      PetscCall(PetscArraycpy(residual->r, r_before, q));
      PetscCall(PetscArraycpy(residual->x, x_before, q));
    }
    if (now > before / 2 || now == 0) break;
    before = now;
    PetscCall(MatCopy(C, C_before, SAME_NONZERO_PATTERN));
    PetscCall(PetscArraycpy(r_before, residual->r, q));
    PetscCall(PetscArraycpy(x_before, residual->x, q));
  }
  PetscCall(MatDestroy(&R));
  PetscCall(MatDestroy(&C_before));
  PetscCall(PetscFree2(r_before, x_before));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* The certificate: residuals of what is handed out decide what is claimed. reason says why it failed, or nothing. */
static PetscErrorCode Certify(GramResidual *residual, PetscReal rtol, const PetscReal goal[],
                              GramReport *report)
{
  PetscBool relative = PETSC_TRUE, met = PETSC_TRUE, floor = PETSC_TRUE, broken;

  PetscFunctionBegin;
  PetscCall(GramResidualNormA(residual, &report->norm_A));
  report->relative_residual = LargestRatio(residual->q, residual->r, residual->b);
  for (PetscInt c = 0; c < residual->q; c++) {
    const PetscReal r = residual->r[c], b = residual->b[c];

    if (PetscIsInfOrNanReal(residual->x[c])) report->backward_error = PetscMax(report->backward_error, r / b);
    else
      report->backward_error =
          PetscMax(report->backward_error, r / (report->norm_A * residual->x[c] + b + 1e-300));
    relative = (PetscBool)(relative && r <= rtol * b);
    met      = (PetscBool)(met && r <= goal[c]);
    floor    = (PetscBool)(floor && (r <= goal[c] || (r <= GramResidualFloor(residual, c) && r < b)));
  }
  broken = (PetscBool)(!strcmp(report->reason, "indefinite") || !strcmp(report->reason, "nan_or_inf"));
  report->converged = (PetscBool)(met || (floor && !broken));
  if (!report->converged && !report->reason[0])
    PetscCall(PetscStrncpy(report->reason, "residual", sizeof report->reason));
  if (!report->converged) PetscFunctionReturn(PETSC_SUCCESS);
  PetscCall(PetscStrncpy(report->reason,
                         !met                                  ? "working_accuracy"
                         : report->method == GRAM_SOLVE_DIRECT ? "direct"
                         : relative                            ? "relative_tolerance"
                                                               : "absolute_tolerance",
                         sizeof report->reason));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* bytes of the dense matrix, per rank */
static PetscLogDouble DirectBytes(PetscInt n, PetscMPIInt size)
{
  return 8.0 * (PetscLogDouble)n * (PetscLogDouble)n / size;
}

static PetscErrorCode MethodFromOptions(MPI_Comm comm, PetscInt n, GramSolveMethod *method)
{
  static const char *const names[] = {"auto", "iterative", "direct"};
  PetscMPIInt              size;
  PetscLogDouble           need, have;
  PetscBool                fits;
  PetscInt                 choice;
  GramSchedule             schedule;
  char                     name[32] = "auto";

  PetscFunctionBegin;
  PetscOptionsBegin(comm, "solve_", "Solution of (K + alpha I) a = y", NULL);
  PetscCall(
      PetscOptionsString("-method", "auto, iterative, direct", "GramSolve", name, name, sizeof name, NULL));
  PetscOptionsEnd();
  for (choice = 0; choice < 3 && strcmp(name, names[choice]) != 0; choice++) continue;
  GramCheckInput(choice < 3, comm, "solve.method: '%s' is none of auto, iterative, direct", name);
  *method = (GramSolveMethod)choice;
  PetscCall(GramScheduleFromOptions(comm, &schedule));
  GramCheckInput(
      !schedule.reproducible || *method != GRAM_SOLVE_DIRECT, comm,
      "solve.method: 'direct' depends on the number of ranks; product.reproducible needs iterative");
  if (schedule.reproducible) *method = GRAM_SOLVE_ITERATIVE;
  if (*method != GRAM_SOLVE_AUTO) PetscFunctionReturn(PETSC_SUCCESS);
  PetscCallMPI(MPI_Comm_size(comm, &size));
  PetscCall(GramMemoryFits(comm, DirectBytes(n, size), &fits, &need, &have));
  *method = n <= GRAM_SOLVE_DIRECT_MAX && fits ? GRAM_SOLVE_DIRECT : GRAM_SOLVE_ITERATIVE;
#if !defined(PETSC_HAVE_SCALAPACK)
  if (size > 1) *method = GRAM_SOLVE_ITERATIVE;
#endif
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* bytes a rank needs to predict at m targets from n points: all points, panels and its share of rows; q columns of
   the points */
static PetscLogDouble PredictBytes(PetscInt n, PetscInt m, PetscInt dim, PetscInt q, PetscMPIInt ranks)
{
  return 8.0 * ((PetscLogDouble)n * (2.5 * dim + PetscMin(q, GRAM_PANEL)) +
                ((PetscLogDouble)n + (PetscLogDouble)m) * (6.0 * dim + 4.0 * q) / ranks);
}

PetscErrorCode GramPredictEstimate(MPI_Comm comm, GramBackend backend, const GramKernel *kernel, PetscInt n,
                                   PetscInt m, PetscInt q)
{
  const PetscInt dim = kernel->dim;
  PetscMPIInt    ranks;
  PetscLogDouble need, have;
  const char    *device;

  PetscFunctionBegin;
  PetscCallMPI(MPI_Comm_size(comm, &ranks));
  PetscCall(GramMemoryCheck(comm, n,
                            PredictBytes(n, m, dim, q * GramKernelNumbers(kernel), ranks) +
                                GramBackendHostBytes(backend, n + m / ranks, dim, q),
                            "predict", NULL, NULL, 0));
  PetscCall(GramBackendGetInfo(backend, NULL, &device, NULL));
  PetscCall(GramCrossDeviceBytes(comm, backend, m, n, dim, q, &need, &have));
  PetscCall(GramMemoryCheckDevice(comm, need, have, device));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* panels of a solve, and a set-up of lrv where -pc_type will be that */
static PetscErrorCode KrylovBytes(MPI_Comm comm, const GramKernel *kernel, PetscInt n, PetscInt q,
                                  PetscLogDouble *panels, PetscLogDouble *pc)
{
  PetscMPIInt  ranks;
  GramSchedule schedule;
  PetscBool    lrv;
  char         type[32];

  PetscFunctionBegin;
  PetscCallMPI(MPI_Comm_size(comm, &ranks));
  PetscCall(GramScheduleFromOptions(comm, &schedule));
  PetscCall(PetscStrncpy(type, schedule.reproducible ? PCNONE : "lrv", sizeof type));
  PetscCall(PetscOptionsGetString(NULL, NULL, "-pc_type", type, sizeof type, NULL));
  PetscCall(PetscStrcmp(type, "lrv", &lrv));
  *panels = 8.0 * 11 * PetscMin(q, GRAM_PANEL) * (PetscLogDouble)n * GramKernelNumbers(kernel) / ranks;
  if (lrv) PetscCall(GramPCLRVBytes(comm, kernel, n, pc));
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramSolveEstimate(MPI_Comm comm, GramBackend backend, const GramKernel *kernel, PetscInt n,
                                 PetscInt m, PetscInt q, PetscBool variance, PetscLogDouble *peak,
                                 PetscLogDouble *pc, char line[], size_t size)
{
  const PetscInt  dim = kernel->dim, numbers = GramKernelNumbers(kernel);
  const PetscInt  columns = variance ? PetscMax(q + 1, GRAM_PANEL) : q + 1; /* of products */
  GramSolveMethod method;
  GramSchedule    schedule;
  PetscMPIInt     ranks;
  PetscLogDouble  bytes, krylov = 0, lrv = 0, need, predict = 0, have;
  const char     *device;
  GramPrecision   precision;
  PetscInt        matrices;

  PetscFunctionBegin;
  PetscCall(MethodFromOptions(comm, n * numbers, &method));
  PetscCallMPI(MPI_Comm_size(comm, &ranks));
  PetscCall(GramScheduleFromOptions(comm, &schedule));
  PetscCall(GramBackendGetInfo(backend, NULL, &device, &precision));
  matrices = schedule.tolerance > 0 || precision != GRAM_DOUBLE ? 2 : 1;
  /* on every rank: the matrix with panels for the columns (GRAM_PANEL at most), and the true one where that is
     another; spread: points, the sort, values, coefficients and work vectors; on every rank the rows of a tail, and of
     variances the targets */
  bytes = matrices * (GramScheduleBytes(&schedule, kernel, n, columns) +
                      GramBackendHostBytes(backend, n, dim, columns * numbers)) +
          8.0 * (PetscLogDouble)n * (8.0 * dim + 8.0 * q * numbers + 8.0) / ranks +
          16.0 * GramPolynomialSize(kernel->tail_degree, dim) * (PetscLogDouble)n * numbers;
  if (m)
    bytes += PredictBytes(n, m, dim, q * numbers, ranks) +
             GramBackendHostBytes(backend, n + m / ranks, dim, q * numbers);
  if (variance) bytes += 8.0 * (PetscLogDouble)m * 4 * dim;
  if (variance && method == GRAM_SOLVE_DIRECT)
    bytes += 8.0 * PetscMin(m, GRAM_INVERSE_COLUMNS) * (PetscLogDouble)n * numbers * (1 + 4.0 / ranks);
  if (method == GRAM_SOLVE_DIRECT) bytes += DirectBytes(n * numbers, ranks);
  else PetscCall(KrylovBytes(comm, kernel, n, variance ? columns : q, &krylov, &lrv));
  bytes += krylov + lrv;
  PetscCall(GramMemoryCheck(comm, n, bytes, method == GRAM_SOLVE_DIRECT ? "direct" : "iterative", peak, line,
                            size));
  if (pc) PetscCallMPI(MPI_Allreduce(&lrv, pc, 1, MPI_DOUBLE, MPI_SUM, comm));
  if (m) PetscCall(GramCrossDeviceBytes(comm, backend, m, n, dim, q, &predict, &have));
  PetscCall(GramScheduleDeviceBytes(&schedule, backend, kernel, n, columns, &need, &have));
  PetscCall(GramMemoryCheckDevice(comm, matrices * need + predict, have, device));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* The power of two that brings each column's largest entry to [1/2, 1); 1 for a column of zeros. Exact, and norms
   can then neither overflow nor vanish. */
static PetscErrorCode ColumnScales(Mat Y, PetscInt q, PetscReal *scale)
{
  PetscFunctionBegin;
  for (PetscInt r = 0; r < q; r++) {
    PetscReal largest;
    int       exponent;
    Vec       y;

    PetscCall(MatDenseGetColumnVecRead(Y, r, &y));
    PetscCall(VecNorm(y, NORM_INFINITY, &largest));
    PetscCall(MatDenseRestoreColumnVecRead(Y, r, &y));
    (void)frexp(largest, &exponent);
    exponent = PetscMax(-1021, PetscMin(1021, exponent));
    scale[r] = largest > 0 && !PetscIsInfOrNanReal(largest) ? ldexp(1, -exponent) : 1;
  }
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode ScaleColumns(Mat Y, PetscInt q, const PetscReal *scale, PetscBool inverse)
{
  PetscFunctionBegin;
  for (PetscInt r = 0; r < q; r++) {
    Vec y;

    if (scale[r] == 1) continue;
    PetscCall(MatDenseGetColumnVec(Y, r, &y));
    PetscCall(VecScale(y, inverse ? 1 / scale[r] : scale[r]));
    PetscCall(MatDenseRestoreColumnVec(Y, r, &y));
  }
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode ColumnNorm(Mat Y, PetscInt c, PetscReal *norm)
{
  Vec y;

  PetscFunctionBegin;
  PetscCall(MatDenseGetColumnVecRead(Y, c, &y));
  PetscCall(VecNorm(y, NORM_2, norm));
  PetscCall(MatDenseRestoreColumnVecRead(Y, c, &y));
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode PairsPerSecond(Mat A, Mat A_true, PetscLogDouble *rate)
{
  GramMatStats a, t = {0};

  PetscFunctionBegin;
  PetscCall(GramMatGetStats(A, &a));
  if (A != A_true) PetscCall(GramMatGetStats(A_true, &t));
  *rate = a.seconds + t.seconds > 0 ? (a.pairs + t.pairs) / (a.seconds + t.seconds) : 0;
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramTrueOperatorCreate(GramPoints X, const GramKernel *kernel, GramBackend backend, Mat A,
                                      GramBackend *exact, Mat *A_true)
{
  MPI_Comm      comm = PetscObjectComm((PetscObject)A);
  const char   *name;
  GramPrecision precision;
  GramSchedule  schedule;

  PetscFunctionBegin;
  PetscCall(GramBackendGetInfo(backend, &name, NULL, &precision));
  PetscCall(GramScheduleFromOptions(comm, &schedule));
  *exact  = NULL;
  *A_true = A;
  if (precision == GRAM_DOUBLE && schedule.tolerance == 0) PetscCall(PetscObjectReference((PetscObject)A));
  else {
    if (precision != GRAM_DOUBLE) PetscCall(GramBackendCreate(comm, name, GRAM_DOUBLE, exact));
    PetscCall(GramMatCreate(X, kernel, *exact ? *exact : backend, A_true));
    PetscCall(GramMatSetTolerance(*A_true, 0));
  }
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* The tail of C, and the residual of the whole system in place of that of the reduced one */
static PetscErrorCode CloseTail(GramTail tail, Mat A_true, Mat Y, Mat C, GramResidual *residual,
                                GramReport *report)
{
  PetscReal *moments;
  Mat        R;

  PetscFunctionBegin;
  PetscCall(GramTailExpand(tail, C));
  PetscCall(PetscMalloc1(residual->q, &moments));
  PetscCall(PetscMalloc1((size_t)report->n_tail * (size_t)residual->q, &report->tail));
  PetscCall(MatMatMult(A_true, C, MAT_INITIAL_MATRIX, PETSC_DEFAULT, &R));
  PetscCall(MatAYPX(R, -1, Y, SAME_NONZERO_PATTERN)); /* Y - A C */
  PetscCall(GramTailSolve(tail, R, C, report->tail, moments));
  for (PetscInt c = 0; c < residual->q; c++) {
    PetscCall(ColumnNorm(R, c, residual->r + c));
    residual->r[c] = PetscSqrtReal(PetscSqr(residual->r[c]) + PetscSqr(moments[c]));
  }
  PetscCall(MatDestroy(&R));
  PetscCall(PetscFree(moments));
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramSolverCreate(Mat A, Mat A_true, GramSolver *solver)
{
  PetscInt   n;
  GramSolver s;

  PetscFunctionBegin;
  PetscCall(PetscNew(&s));
  s->A = s->B = A;
  s->A_true = s->B_true = A_true;
  PetscCall(GramMatGetKernel(A, &s->kernel));
  PetscCall(MatGetSize(A, &n, NULL));
  PetscCall(MethodFromOptions(PetscObjectComm((PetscObject)A), n, &s->method));
  if (s->kernel.tail_degree >= 0) {
    PetscCall(GramTailCreate(A_true, &s->tail));
    PetscCall(GramTailReduce(s->tail, A, &s->B));
    if (A != A_true) PetscCall(GramTailReduce(s->tail, A_true, &s->B_true));
    else s->B_true = s->B;
  }
  PetscCall(GramKrylovCreate(s->B, &s->ksp));
  if (s->method == GRAM_SOLVE_ITERATIVE) PetscCall(GramKrylovCheck(s->ksp));
  *solver = s;
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramSolverDestroy(GramSolver *solver)
{
  GramSolver s = *solver;

  PetscFunctionBegin;
  if (!s) PetscFunctionReturn(PETSC_SUCCESS);
  PetscCall(GramDirectDestroy(&s->direct));
  PetscCall(KSPDestroy(&s->ksp));
  if (s->B_true != s->B && s->tail) PetscCall(MatDestroy(&s->B_true));
  if (s->tail) PetscCall(MatDestroy(&s->B));
  PetscCall(GramTailDestroy(&s->tail));
  PetscCall(PetscFree(*solver));
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramSolverGetReduced(GramSolver s, GramTail *tail, Mat *B)
{
  PetscFunctionBegin;
  *tail = s->tail;
  *B    = s->B_true;
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramSolverGetMethod(GramSolver s, GramSolveMethod *method)
{
  PetscFunctionBegin;
  *method = s->method;
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramSolverGetPC(GramSolver s, PC *pc)
{
  PetscFunctionBegin;
  PetscCall(KSPGetPC(s->ksp, pc));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* The state that a guess is, its columns scaled; free with GuessClear() */
static PetscErrorCode GuessTake(GramSolver s, Mat guess, const PetscReal scale[], GramSolveState *state)
{
  PetscInt q;

  PetscFunctionBegin;
  *state = (GramSolveState){0};
  PetscCall(MatGetSize(guess, NULL, &q));
  PetscCall(MatDuplicate(guess, MAT_COPY_VALUES, &state->X));
  PetscCall(MatDuplicate(guess, MAT_DO_NOT_COPY_VALUES, &state->P));
  PetscCall(MatZeroEntries(state->P));
  PetscCall(ScaleColumns(state->X, q, scale, PETSC_FALSE));
  if (s->tail) PetscCall(GramTailZeroSpecial(s->tail, state->X)); /* Z mu is mu in the other rows */
  PetscCall(PetscCalloc2(q, &state->rz, q, &state->iterations));
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode GuessClear(GramSolveState *state)
{
  PetscFunctionBegin;
  PetscCall(MatDestroy(&state->X));
  PetscCall(MatDestroy(&state->P));
  PetscCall(PetscFree2(state->rz, state->iterations));
  PetscFunctionReturn(PETSC_SUCCESS);
}

static void LeastKeep(GramSolver s, PetscReal ritz)
{
  if (!(s->least > 0)) s->least = 1;
  if (ritz > 0) s->least = PetscMin(s->least, ritz);
}

PetscErrorCode GramSolverSolve(GramSolver s, Mat Y, const GramSolveControl *control, Mat *C,
                               GramReport *report)
{
  PetscReal     rtol, atol, *scale, *goal; /* of each column */
  PetscInt      q;
  GramPrecision precision;
  GramResidual  residual;
  Mat           R; /* Y, its columns scaled, without what the tail takes */

  PetscFunctionBegin;
  *report = (GramReport){.method         = s->method,
                         .exact_from     = -1,
                         .numerical_rank = -1,
                         .eigenvalue_min = NAN,
                         .eigenvalue_max = NAN};
  PetscCall(MatGetSize(Y, NULL, &q));
  PetscCall(PetscMalloc2(q, &scale, q, &goal));
  PetscCall(ColumnScales(Y, q, scale));
  PetscCall(ScaleColumns(Y, q, scale, PETSC_FALSE));
  PetscCall(MatDuplicate(Y, MAT_COPY_VALUES, &R));
  PetscCall(MatDuplicate(Y, MAT_DO_NOT_COPY_VALUES, C));
  PetscCall(MatZeroEntries(*C));
  PetscCall(GramMatMatchPanel(s->A, R));
  PetscCall(GramMatMatchPanel(s->A, *C));

  PetscCall(PetscTimeSubtract(&report->solve_seconds));
  report->n_tail = GramPolynomialSize(s->kernel.tail_degree, s->kernel.dim);
  PetscCall(GramResidualCreate(s->B_true, R, &residual)); /* norms of what the tail takes, too */
  if (s->tail) PetscCall(GramTailProject(s->tail, R));
  for (PetscInt c = 0; c < q && s->tail; c++) PetscCall(ColumnNorm(R, c, residual.r + c));
  PetscCall(GramMatGetPrecision(s->B, &precision));
  PetscCall(KSPGetTolerances(s->ksp, &rtol, &atol, NULL, NULL));
  for (PetscInt c = 0; c < q; c++) goal[c] = PetscMax(rtol * residual.b[c], atol * scale[c]);
  if (s->method == GRAM_SOLVE_DIRECT) PetscCall(SolveDirect(s, &residual, R, *C, q, report));
  else {
    GramSolveControl guided = control ? *control : (GramSolveControl){0};
    GramSolveState   guess  = {0};

    if (guided.guess && !guided.from) {
      PetscCall(GuessTake(s, guided.guess, scale, &guess));
      guided.from = &guess;
    }
    PetscCall(GramKrylovSolve(s->ksp, (PetscBool)(s->B != s->B_true && precision != GRAM_SINGLE), R, goal,
                              control ? &guided : NULL, *C, &residual, report));
    PetscCall(GuessClear(&guess));
  }
  if (!report->stopped) {
    if (s->tail) PetscCall(CloseTail(s->tail, s->A_true, Y, *C, &residual, report));
    PetscCall(Certify(&residual, rtol, goal, report));
    LeastKeep(s, report->eigenvalue_min);
  }
  PetscCall(PetscTimeAdd(&report->solve_seconds));
  report->solve_seconds -= report->setup_seconds;

  PetscCall(ScaleColumns(*C, q, scale, PETSC_TRUE));
  PetscCall(ScaleColumns(Y, q, scale, PETSC_TRUE));
  for (PetscInt k = 0; k < report->n_tail * q && report->tail; k++) report->tail[k] /= scale[k % q];
  PetscCall(PairsPerSecond(s->A, s->A_true, &report->pairs_per_second));
  PetscCall(MatDestroy(&R));
  PetscCall(GramResidualClear(&residual));
  PetscCall(PetscFree2(scale, goal));
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramSolve(Mat A, Mat A_true, Mat Y, const GramSolveControl *control, Mat *C,
                         GramReport *report)
{
  GramSolver solver;

  PetscFunctionBegin;
  PetscCall(GramSolverCreate(A, A_true, &solver));
  PetscCall(GramSolverSolve(solver, Y, control, C, report));
  PetscCall(GramSolverDestroy(&solver));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* ---- quadratic forms of the inverse */

typedef struct {
  GramSolver      solver;
  GramInverseTest test;
  void           *ctx;
  PetscReal      *bounds; /* [q] the last ones */
  PetscInt        most;   /* iterations of a column */
} Inverse;

static PetscErrorCode TestInverse(void *ctx, PetscInt column, const GramPCGState *state,
                                  KSPConvergedReason *reason)
{
  Inverse  *inverse = (Inverse *)ctx;
  PetscReal least, largest;
  PetscBool done = PETSC_FALSE;

  PetscFunctionBegin;
  if (state->it < 2 * RITZ_EVERY || state->it % (state->it / RITZ_EVERY) == 0) {
    PetscCall(GramPCGRitz(state, &least, &largest));
    LeastKeep(inverse->solver, least);
  }
  inverse->bounds[column] = state->rz / inverse->solver->least;
  if (PetscIsInfOrNanReal(state->rz)) *reason = KSP_DIVERGED_NANORINF;
  else if (state->it >= inverse->most) *reason = KSP_DIVERGED_ITS;
  else if (state->rz <= PetscSqr(PETSC_MACHINE_EPSILON) * state->form) done = PETSC_TRUE;
  else if (inverse->test && state->it > 0)
    PetscCall(inverse->test(inverse->ctx, column, state->form, inverse->bounds[column], &done));
  if (done) *reason = KSP_CONVERGED_RTOL;
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* [q] sums over the columns */
static PetscErrorCode ColumnDots(Mat X, Mat Y, PetscReal dots[])
{
  PetscInt q;

  PetscFunctionBegin;
  PetscCall(MatGetSize(X, NULL, &q));
  for (PetscInt c = 0; c < q; c++) {
    Vec x, y;

    PetscCall(MatDenseGetColumnVecRead(X, c, &x));
    PetscCall(MatDenseGetColumnVecRead(Y, c, &y));
    PetscCall(VecDot(x, y, dots + c));
    PetscCall(MatDenseRestoreColumnVecRead(Y, c, &y));
    PetscCall(MatDenseRestoreColumnVecRead(X, c, &x));
  }
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramSolverInverse(GramSolver s, Mat G, GramInverseTest test, void *ctx, Mat X,
                                 PetscReal forms[], PetscReal errors[])
{
  Inverse       inverse = {.solver = s, .test = test, .ctx = ctx, .bounds = errors};
  GramPCGColumn columns[GRAM_PANEL];
  PetscInt      q, products;
  PetscReal    *dots;
  Mat           BX;
  PC            pc;

  PetscFunctionBegin;
  PetscCall(MatGetSize(G, NULL, &q));
  PetscCheck(s->method == GRAM_SOLVE_DIRECT || q <= GRAM_PANEL, PetscObjectComm((PetscObject)G),
             PETSC_ERR_ARG_SIZ, "%" PetscInt_FMT " columns, more than %d", q, GRAM_PANEL);
  PetscCall(PetscArrayzero(errors, q));
  if (s->method == GRAM_SOLVE_DIRECT) {
    PetscCall(Factor(s));
    GramCheckInput(s->factored, PetscObjectComm((PetscObject)G),
                   "ridge.alpha: %.6g leaves the matrix numerically singular, and its inverse is asked for",
                   (double)s->kernel.alpha);
    PetscCall(GramDirectSolve(s->direct, G, X));
    PetscCall(ColumnDots(G, X, forms));
    PetscFunctionReturn(PETSC_SUCCESS);
  }
  PetscCall(KSPSetUp(s->ksp));
  PetscCall(KSPGetPC(s->ksp, &pc));
  PetscCall(KSPGetTolerances(s->ksp, NULL, NULL, NULL, &inverse.most));
  inverse.most = PetscMin(inverse.most, INVERSE_MOST);
  PetscCall(GramPCG(s->B_true, pc, G, X, PETSC_FALSE, NULL, TestInverse, &inverse, columns, &products));
  PetscCall(PetscMalloc1(q, &dots));
  PetscCall(MatMatMult(s->B_true, X, MAT_INITIAL_MATRIX, PETSC_DEFAULT, &BX));
  PetscCall(ColumnDots(G, X, forms));
  PetscCall(ColumnDots(BX, X, dots));
  for (PetscInt c = 0; c < q; c++) forms[c] = 2 * forms[c] - dots[c];
  PetscCall(MatDestroy(&BX));
  PetscCall(PetscFree(dots));
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramReportClear(GramReport *report)
{
  PetscFunctionBegin;
  PetscCall(PetscFree(report->tail));
  PetscCall(PetscFree(report->history));
  report->n_history = 0;
  PetscFunctionReturn(PETSC_SUCCESS);
}
