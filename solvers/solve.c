#include <petscksp.h>
#include <petsctime.h>

#include "direct.h"
#include "memory.h"
#include "progress.h"
#include "solve.h"

#define RESTARTS    5 /* of a KSP whose recursion lost touch with the residual */
#define REFINEMENTS 3

/* What the KSP hooks see. */
typedef struct {
  GramReport *report;
  PetscInt    q, done;  /* columns in all, and solved */
  PetscInt    capacity; /* of column */
  PetscReal  *column;   /* history of this column */
  PetscInt    n_column;
  PetscReal   norm_b, target, best; /* ||b||, the residual norm to reach, the least seen */
  PetscInt    since_best;
  PetscBool   stagnated;
  Vec         x_best;    /* the iterate to hand out when the last one turns out worse */
  PetscReal   norm_best; /* of its residual */
} Watch;

static PetscErrorCode HistoryAdd(Watch *w, PetscReal relative)
{
  PetscFunctionBegin;
  if (w->n_column == w->capacity) {
    w->capacity = PetscMax(64, 2 * w->capacity);
    PetscCall(PetscRealloc((size_t)w->capacity * sizeof *w->column, &w->column));
  }
  w->column[w->n_column++] = relative;
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode Monitor(KSP ksp, PetscInt it, PetscReal norm, void *ctx)
{
  Watch    *w        = (Watch *)ctx;
  PetscReal relative = norm / w->norm_b, goal = PetscMax(w->target / w->norm_b, PETSC_SMALL * PETSC_SMALL);
  PetscReal fraction;
  char      note[80];

  PetscFunctionBegin;
  if (it > 0 || !w->n_column) PetscCall(HistoryAdd(w, relative));
  if (norm < 0.5 * w->norm_best) { /* a copy for each halving: few, and never far from the best */
    PetscCall(KSPBuildSolution(ksp, w->x_best, NULL));
    w->norm_best = norm;
  }
  PetscCall(PetscSNPrintf(note, sizeof note, "iteration %" PetscInt_FMT ", residual %.1e", w->n_column - 1,
                          (double)relative));
  fraction = relative < 1 && relative > 0 ? PetscLogReal(relative) / PetscLogReal(PetscMin(goal, 0.5)) : 0;
  PetscCall(GramProgressUpdate(((PetscReal)w->done + PetscMin(1, fraction)) / (PetscReal)w->q, note));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* PETSc's own test, and patience that ends. */
static PetscErrorCode Converged(KSP ksp, PetscInt it, PetscReal norm, KSPConvergedReason *reason, void *ctx)
{
  Watch *w = (Watch *)ctx;

  PetscFunctionBegin;
  if (PetscIsInfOrNanReal(norm)) *reason = KSP_DIVERGED_NANORINF;
  else if (norm <= w->target) *reason = KSP_CONVERGED_RTOL;
  else if (norm < w->best) {
    w->best       = norm;
    w->since_best = 0;
  } else if (++w->since_best > GRAM_SOLVE_PATIENCE) {
    w->stagnated = PETSC_TRUE;
    *reason      = KSP_DIVERGED_BREAKDOWN;
  }
  (void)it;
  (void)ksp;
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* The norm of b - A x itself where the method can watch it; the others keep their default. */
static PetscErrorCode DefaultNorm(KSP ksp)
{
  PetscBool watches;

  PetscFunctionBegin;
  PetscCall(PetscObjectTypeCompareAny((PetscObject)ksp, &watches, KSPCG, KSPFCG, KSPPIPECG, KSPPIPEFCG,
                                      KSPGROPPCG, ""));
  if (watches) PetscCall(KSPSetNormType(ksp, KSP_NORM_UNPRECONDITIONED));
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode KSPCreateGram(Mat A, KSP *ksp)
{
  PetscReal rtol, atol;
  PetscInt  max_it;
  PetscBool chosen;
  PC        pc;

  PetscFunctionBegin;
  PetscCall(KSPCreate(PetscObjectComm((PetscObject)A), ksp));
  PetscCall(KSPSetOperators(*ksp, A, A));
  PetscCall(KSPSetType(*ksp, KSPCG));
  PetscCall(KSPSetTolerances(*ksp, 1e-8, 0, PETSC_DEFAULT, 10000));
  PetscCall(KSPGetPC(*ksp, &pc));
  PetscCall(PCSetType(pc, PCNONE));
  PetscCall(KSPSetFromOptions(*ksp));
  PetscCall(KSPGetTolerances(*ksp, &rtol, &atol, NULL, &max_it));
  GramCheckInput(rtol >= 0 && rtol < 1, PetscObjectComm((PetscObject)A), "ksp.rtol: %.6g is not in [0, 1)",
                 (double)rtol);
  GramCheckInput(atol >= 0, PetscObjectComm((PetscObject)A), "ksp.atol: %.6g is not >= 0", (double)atol);
  GramCheckInput(max_it >= 0, PetscObjectComm((PetscObject)A), "ksp.max_it: %" PetscInt_FMT " is not >= 0",
                 max_it);
  PetscCall(PetscOptionsHasName(NULL, NULL, "-ksp_norm_type", &chosen));
  if (!chosen) PetscCall(DefaultNorm(*ksp));
  PetscFunctionReturn(PETSC_SUCCESS);
}

static const char *ReasonName(KSPConvergedReason reason, PetscBool stagnated)
{
  if (stagnated) return "stagnation";
  switch (reason) {
  case KSP_DIVERGED_ITS: return "max_iterations";
  case KSP_DIVERGED_NANORINF: return "nan_or_inf";
  case KSP_DIVERGED_INDEFINITE_MAT:
  case KSP_DIVERGED_INDEFINITE_PC: return "indefinite";
  default: return reason < 0 ? "breakdown" : "residual";
  }
}

static PetscBool Succeeded(const char *reason)
{
  return (PetscBool)(!strcmp(reason, "relative_tolerance") || !strcmp(reason, "absolute_tolerance") ||
                     !strcmp(reason, "direct"));
}

/* R = Y - A X, column norms of R and X, and ||A||_1 once: a column of ones rides along in the panel (k > 0). */
static PetscErrorCode Residual(Mat A, Mat Y, Mat X, Mat R, PetscReal *norm_r, PetscReal *norm_x,
                               PetscReal *norm_A)
{
  Mat              V, AV;
  PetscInt         q, n, lda, ldx;
  PetscReal       *v;
  const PetscReal *x;
  Vec              ones;

  PetscFunctionBegin;
  PetscCall(MatGetSize(X, NULL, &q));
  PetscCall(MatGetLocalSize(X, &n, NULL));
  PetscCall(
      MatCreateDense(PetscObjectComm((PetscObject)A), n, PETSC_DECIDE, PETSC_DETERMINE, q + 1, NULL, &V));
  PetscCall(MatDenseGetLDA(V, &lda));
  PetscCall(MatDenseGetLDA(X, &ldx));
  PetscCall(MatDenseGetArrayWrite(V, &v));
  PetscCall(MatDenseGetArrayRead(X, &x));
  for (PetscInt r = 0; r <= q; r++) {
    for (PetscInt i = 0; i < n; i++) v[GramAt(r, lda, i)] = r < q ? x[GramAt(r, ldx, i)] : 1;
  }
  PetscCall(MatDenseRestoreArrayRead(X, &x));
  PetscCall(MatDenseRestoreArrayWrite(V, &v));
  PetscCall(MatMatMult(A, V, MAT_INITIAL_MATRIX, PETSC_DEFAULT, &AV));
  PetscCall(MatDenseGetColumnVecRead(AV, q, &ones));
  PetscCall(VecNorm(ones, NORM_INFINITY, norm_A));
  PetscCall(MatDenseRestoreColumnVecRead(AV, q, &ones));
  for (PetscInt r = 0; r < q; r++) {
    Vec y, ax, res, xr;

    PetscCall(MatDenseGetColumnVecRead(X, r, &xr));
    PetscCall(VecNorm(xr, NORM_2, norm_x + r));
    PetscCall(MatDenseRestoreColumnVecRead(X, r, &xr));
    PetscCall(MatDenseGetColumnVecRead(Y, r, &y));
    PetscCall(MatDenseGetColumnVecRead(AV, r, &ax));
    PetscCall(MatDenseGetColumnVecWrite(R, r, &res));
    PetscCall(VecWAXPY(res, -1, ax, y)); /* r = y - A x */
    PetscCall(VecNorm(res, NORM_2, norm_r + r));
    PetscCall(MatDenseRestoreColumnVecWrite(R, r, &res));
    PetscCall(MatDenseRestoreColumnVecRead(AV, r, &ax));
    PetscCall(MatDenseRestoreColumnVecRead(Y, r, &y));
  }
  PetscCall(MatDestroy(&AV));
  PetscCall(MatDestroy(&V));
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode ColumnNorms(Mat Y, PetscInt q, PetscReal *norm)
{
  PetscFunctionBegin;
  for (PetscInt r = 0; r < q; r++) {
    Vec y;

    PetscCall(MatDenseGetColumnVecRead(Y, r, &y));
    PetscCall(VecNorm(y, NORM_2, norm + r));
    PetscCall(MatDenseRestoreColumnVecRead(Y, r, &y));
  }
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* ||b - A x|| of the true operator */
static PetscErrorCode TrueNorm(Mat A_true, Vec b, Vec x, Vec r, PetscReal *norm)
{
  PetscFunctionBegin;
  PetscCall(MatMult(A_true, x, r));
  PetscCall(VecAYPX(r, -1, b)); /* r = b - A x */
  PetscCall(VecNorm(r, NORM_2, norm));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* One column: the KSP, then restarts while the true residual is above the target and still halves. What a failing
   KSP leaves in x is exchanged for the best iterate on the way, or zero. */
static PetscErrorCode SolveColumn(KSP ksp, Mat A_true, Vec b, Vec x, PetscReal rtol, PetscReal atol, Watch *w,
                                  char reason[32])
{
  KSPConvergedReason ksp_reason;
  PetscReal          before = PETSC_MAX_REAL, norm = PETSC_INFINITY, goal;
  GramMatStats       begin, end;
  PetscBool          exact;
  Mat                A;
  Vec                r;

  PetscFunctionBegin;
  PetscCall(KSPGetOperators(ksp, &A, NULL));
  exact = (PetscBool)(A == A_true);
  PetscCall(VecNorm(b, NORM_2, &w->norm_b));
  PetscCall(VecSet(x, 0));
  PetscCall(PetscStrncpy(reason, "relative_tolerance", 32));
  w->n_column = 0;
  if (w->norm_b == 0) PetscCall(HistoryAdd(w, 0));
  if (w->norm_b == 0) PetscFunctionReturn(PETSC_SUCCESS);
  PetscCall(VecDuplicate(b, &r));
  PetscCall(VecDuplicate(b, &w->x_best));
  PetscCall(VecSet(w->x_best, 0));
  w->norm_best = w->norm_b;
  w->target = goal = PetscMax(rtol * w->norm_b, atol);
  for (PetscInt attempt = 0; attempt <= (exact ? RESTARTS : 0); attempt++) {
    w->best       = PETSC_MAX_REAL;
    w->since_best = 0;
    w->stagnated  = PETSC_FALSE;
    PetscCall(KSPSetInitialGuessNonzero(ksp, (PetscBool)(attempt > 0)));
    PetscCall(GramMatGetStats(A, &begin));
    PetscCall(KSPSolve(ksp, b, x));
    PetscCall(GramMatGetStats(A, &end));
    w->report->iterations += end.products - begin.products;
    PetscCall(KSPGetConvergedReason(ksp, &ksp_reason));
    PetscCall(PetscStrncpy(reason, ReasonName(ksp_reason, w->stagnated), 32));
    PetscCall(TrueNorm(A_true, b, x, r, &norm));
    if (ksp_reason < 0) break;
    if (norm <= goal) {
      PetscCall(
          PetscStrncpy(reason, norm <= rtol * w->norm_b ? "relative_tolerance" : "absolute_tolerance", 32));
      break;
    }
    if (!(norm <= before / 2)) break;
    before = norm;
    w->target *= 0.5 * goal / norm; /* the KSP may watch another norm: ask it for as much less */
  }
  if (!(norm <= w->norm_best)) { /* NaN included */
    PetscReal best;

    PetscCall(TrueNorm(A_true, b, w->x_best, r, &best));
    if (!(norm <= best)) PetscCall(VecCopy(w->x_best, x));
  }
  PetscCall(VecDestroy(&w->x_best));
  PetscCall(VecDestroy(&r));
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode SolveIterative(KSP ksp, Mat A_true, Mat Y, Mat C, PetscInt q,
                                     const PetscReal tolerance[2], const PetscReal *scale, GramReport *report)
{
  Watch w = {.report = report, .q = q};

  PetscFunctionBegin;
  PetscCall(KSPMonitorSet(ksp, Monitor, &w, NULL));
  PetscCall(KSPSetConvergenceTest(ksp, Converged, &w, NULL));
  PetscCall(GramProgressBegin("solve", 0));
  for (PetscInt r = 0; r < q; r++) {
    Vec  b, x;
    char reason[32];

    PetscCall(MatDenseGetColumnVecRead(Y, r, &b));
    PetscCall(MatDenseGetColumnVecWrite(C, r, &x));
    w.done = r;
    PetscCall(SolveColumn(ksp, A_true, b, x, tolerance[0], tolerance[1] * scale[r], &w, reason));
    PetscCall(MatDenseRestoreColumnVecWrite(C, r, &x));
    PetscCall(MatDenseRestoreColumnVecRead(Y, r, &b));
    if (!strlen(report->reason) || Succeeded(report->reason)) { /* the first failure stays */
      PetscCall(PetscStrncpy(report->reason, reason, sizeof report->reason));
    }
    if (r == 0 || w.n_column > report->n_history) {
      PetscCall(PetscFree(report->history));
      report->history   = w.column;
      report->n_history = w.n_column;
      w.column          = NULL;
      w.capacity        = 0;
    }
  }
  PetscCall(PetscFree(w.column));
  PetscCall(KSPMonitorCancel(ksp));
  PetscCall(GramProgressEnd());
  PetscFunctionReturn(PETSC_SUCCESS);
}

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

/* Cholesky, then x += A^-1 (y - A x) while that halves the residual. */
static PetscErrorCode SolveDirect(Mat A, Mat A_true, Mat Y, Mat C, PetscInt q, GramReport *report)
{
  PetscReal *norm_b, *norm_r, *norm_x, before = PETSC_INFINITY, now;
  GramDirect direct;
  PetscBool  spd;
  Mat        R, C_before;

  PetscFunctionBegin;
  PetscCall(PetscMalloc1(REFINEMENTS + 2, &report->history));
  report->history[report->n_history++] = 1; /* x = 0 */
  PetscCall(PetscTimeSubtract(&report->setup_seconds));
  PetscCall(GramDirectCreate(A, &direct, &spd));
  PetscCall(PetscTimeAdd(&report->setup_seconds));
  PetscCall(PetscStrncpy(report->reason, spd ? "direct" : "indefinite", sizeof report->reason));
  PetscCall(PetscMalloc3(q, &norm_b, q, &norm_r, q, &norm_x));
  PetscCall(ColumnNorms(Y, q, norm_b));
  PetscCall(MatDuplicate(Y, MAT_COPY_VALUES, &R));
  PetscCall(MatDuplicate(Y, MAT_DO_NOT_COPY_VALUES, &C_before));
  for (PetscInt step = 0; spd && step <= REFINEMENTS; step++) {
    for (PetscInt r = 0; r < q; r++) {
      Vec res, d, x;

      PetscCall(MatDenseGetColumnVecRead(R, r, &res));
      PetscCall(VecDuplicate(res, &d));
      PetscCall(GramDirectSolve(direct, res, d));
      PetscCall(MatDenseGetColumnVec(C, r, &x));
      PetscCall(VecAXPY(x, 1, d)); /* x += A^-1 r */
      PetscCall(MatDenseRestoreColumnVec(C, r, &x));
      PetscCall(VecDestroy(&d));
      PetscCall(MatDenseRestoreColumnVecRead(R, r, &res));
    }
    PetscCall(Residual(A_true, Y, C, R, norm_r, norm_x, &report->norm_A));
    now                                  = LargestRatio(q, norm_r, norm_b);
    report->history[report->n_history++] = now;
    if (now > before) PetscCall(MatCopy(C_before, C, SAME_NONZERO_PATTERN)); /* that step did harm */
    if (now > before / 2 || now == 0) break;
    before = now;
    PetscCall(MatCopy(C, C_before, SAME_NONZERO_PATTERN));
  }
  PetscCall(MatDestroy(&R));
  PetscCall(MatDestroy(&C_before));
  PetscCall(PetscFree3(norm_b, norm_r, norm_x));
  PetscCall(GramDirectDestroy(&direct));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* The certificate: residuals of what is handed out decide what is claimed. */
static PetscErrorCode Certify(Mat A_true, Mat Y, Mat C, PetscInt q, const PetscReal tolerance[2],
                              const PetscReal *scale, GramReport *report)
{
  PetscReal *norm_b, *norm_r, *norm_x;
  PetscBool  met = PETSC_TRUE, floor = PETSC_TRUE, direct = (PetscBool)(report->method == GRAM_SOLVE_DIRECT),
            failed;
  Mat R;

  PetscFunctionBegin;
  PetscCall(PetscMalloc3(q, &norm_b, q, &norm_r, q, &norm_x));
  PetscCall(ColumnNorms(Y, q, norm_b));
  PetscCall(MatDuplicate(Y, MAT_DO_NOT_COPY_VALUES, &R));
  PetscCall(GramMatMatchPanel(A_true, R));
  PetscCall(Residual(A_true, Y, C, R, norm_r, norm_x, &report->norm_A));
  report->relative_residual = LargestRatio(q, norm_r, norm_b);
  for (PetscInt r = 0; r < q; r++) {
    const PetscBool within =
        (PetscBool)(norm_r[r] <= PetscMax(tolerance[0] * norm_b[r], tolerance[1] * scale[r]));

    report->backward_error =
        PetscMax(report->backward_error, norm_r[r] / (report->norm_A * norm_x[r] + norm_b[r] + 1e-300));
    met   = (PetscBool)(met && within);
    floor = (PetscBool)(floor && (within || norm_r[r] <= PETSC_MACHINE_EPSILON * report->norm_A * norm_x[r]));
  }
  failed = (PetscBool)(!strcmp(report->reason, "indefinite") || !strcmp(report->reason, "nan_or_inf"));
  report->converged = (PetscBool)(met || (floor && !failed));
  if (met && !direct && strcmp(report->reason, "absolute_tolerance")) {
    PetscCall(PetscStrncpy(report->reason, "relative_tolerance", sizeof report->reason));
  }
  if (!met && report->converged)
    PetscCall(PetscStrncpy(report->reason, "working_accuracy", sizeof report->reason));
  if (!report->converged && Succeeded(report->reason))
    PetscCall(PetscStrncpy(report->reason, "residual", sizeof report->reason));
  PetscCall(MatDestroy(&R));
  PetscCall(PetscFree3(norm_b, norm_r, norm_x));
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

PetscLogDouble GramPredictBytes(PetscInt n, PetscInt m, PetscInt dim, PetscInt q, PetscMPIInt ranks)
{
  return 8.0 * ((PetscLogDouble)n * (2.0 * dim + q) +
                ((PetscLogDouble)n + (PetscLogDouble)m) * (6.0 * dim + 4.0 * q) / ranks);
}

PetscErrorCode GramSolveEstimate(MPI_Comm comm, PetscInt n, PetscInt m, PetscInt dim, PetscInt q, char line[],
                                 size_t size)
{
  GramSolveMethod method;
  GramSchedule    schedule;
  PetscMPIInt     ranks;
  PetscLogDouble  bytes;

  PetscFunctionBegin;
  PetscCall(MethodFromOptions(comm, n, &method));
  PetscCallMPI(MPI_Comm_size(comm, &ranks));
  PetscCall(GramScheduleFromOptions(comm, &schedule));
  /* on every rank: the matrix with panels of q + 1 columns, and its exact twin where tiles are skipped; spread: points,
     the sort, values, coefficients and work vectors */
  bytes = (schedule.tolerance > 0 ? 2 : 1) * GramScheduleBytes(&schedule, n, dim, q + 1) +
          8.0 * (PetscLogDouble)n * (8.0 * dim + 8.0 * q + 8.0) / ranks;
  if (m) bytes += GramPredictBytes(n, m, dim, q, ranks);
  if (method == GRAM_SOLVE_DIRECT) bytes += DirectBytes(n, ranks);
  PetscCall(
      GramMemoryCheck(comm, n, bytes, method == GRAM_SOLVE_DIRECT ? "direct" : "iterative", line, size));
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

PetscErrorCode GramSolve(Mat A, Mat A_true, Mat Y, Mat *C, GramReport *report)
{
  PetscReal    tolerance[2], *scale; /* rtol, atol; of each column */
  PetscInt     n, q;
  GramMatStats stats;
  Mat          B; /* Y, its columns scaled */
  KSP          ksp;

  PetscFunctionBegin;
  PetscCall(PetscMemzero(report, sizeof *report));
  PetscCall(MatGetSize(Y, &n, &q));
  PetscCall(MethodFromOptions(PetscObjectComm((PetscObject)A), n, &report->method));
  PetscCall(KSPCreateGram(A, &ksp));
  PetscCall(KSPGetTolerances(ksp, &tolerance[0], &tolerance[1], NULL, NULL));
  PetscCall(PetscMalloc1(q, &scale));
  PetscCall(ColumnScales(Y, q, scale));
  PetscCall(MatDuplicate(Y, MAT_COPY_VALUES, &B));
  PetscCall(ScaleColumns(B, q, scale, PETSC_FALSE));
  PetscCall(MatDuplicate(Y, MAT_DO_NOT_COPY_VALUES, C));
  PetscCall(MatZeroEntries(*C));
  PetscCall(GramMatMatchPanel(A, B));
  PetscCall(GramMatMatchPanel(A, *C));

  PetscCall(PetscTimeSubtract(&report->solve_seconds));
  if (report->method == GRAM_SOLVE_DIRECT) PetscCall(SolveDirect(A, A_true, B, *C, q, report));
  else PetscCall(SolveIterative(ksp, A_true, B, *C, q, tolerance, scale, report));
  PetscCall(Certify(A_true, B, *C, q, tolerance, scale, report));
  PetscCall(PetscTimeAdd(&report->solve_seconds));
  report->solve_seconds -= report->setup_seconds;

  PetscCall(ScaleColumns(*C, q, scale, PETSC_TRUE));
  PetscCall(GramMatGetStats(A, &stats));
  if (stats.seconds > 0) report->pairs_per_second = stats.pairs / stats.seconds;
  PetscCall(MatDestroy(&B));
  PetscCall(PetscFree(scale));
  PetscCall(KSPDestroy(&ksp));
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramReportClear(GramReport *report)
{
  PetscFunctionBegin;
  PetscCall(PetscFree(report->history));
  report->n_history = 0;
  PetscFunctionReturn(PETSC_SUCCESS);
}
