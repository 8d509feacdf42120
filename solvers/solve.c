#include <petscksp.h>
#include <petsctime.h>

#include "direct.h"
#include "lrv.h"
#include "memory.h"
#include "progress.h"
#include "solve.h"

#define RESTARTS    5 /* of a KSP whose recursion lost touch with the residual */
#define REFINEMENTS 3
#define REFINE_BY   1e-2 /* how much one refinement asks of products that are less than true */

/* Norms by the true operator: they decide when a solve is done, and they are its certificate. */
typedef struct {
  Mat        A_true;
  PetscReal  A;         /* ||A||_1, 0 until a product has found it */
  PetscReal *b, *r, *x; /* [q] of the columns of Y, of Y - A C and of C */
} Norms;

/* the residual below which no x in double precision gets, of column r */
static PetscReal WorkingAccuracy(const Norms *norms, PetscInt r)
{
  return PETSC_MACHINE_EPSILON * norms->A * norms->x[r];
}

/* What the KSP hooks see. */
typedef struct {
  GramReport *report;
  Norms      *norms;
  PetscInt    q, done;  /* columns in all, and solved */
  PetscInt    capacity; /* of column */
  PetscReal  *column;   /* history of this column */
  PetscInt    n_column;
  PetscInt    max_it, left; /* iterations that a column may take, and that this one has left */
  PetscReal   norm_b, goal; /* ||b||, the norm of the true residual to reach */
  PetscReal   target, factor,
      best; /* the norm to reach in this KSPSolve(), or the factor by which; the least seen */
  PetscInt  since_best;
  PetscBool stagnated;
  PetscReal start;     /* norm at the beginning of this KSPSolve() */
  PetscBool slow;      /* at this rate it takes too long, and lrv can grow */
  PetscBool refine;    /* A is less than the true operator, and so are its corrections */
  Vec       x_best;    /* the iterate to hand out when the last one turns out worse */
  PetscReal norm_best; /* of its residual */
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
  PetscReal relative = norm / w->norm_b, goal = PetscMax(w->goal / w->norm_b, PETSC_SMALL * PETSC_SMALL);
  PetscReal fraction;
  char      note[80];

  PetscFunctionBegin;
  if (it > 0 || !w->n_column) PetscCall(HistoryAdd(w, relative));
  if (!w->refine &&
      norm < 0.5 * w->norm_best) { /* a copy for each halving: few, and never far from the best */
    PetscCall(KSPBuildSolution(ksp, w->x_best, NULL));
    w->norm_best = norm;
  }
  PetscCall(PetscSNPrintf(note, sizeof note, "iteration %" PetscInt_FMT ", residual %.1e", w->n_column - 1,
                          (double)relative));
  fraction = relative < 1 && relative > 0 ? PetscLogReal(relative) / PetscLogReal(PetscMin(goal, 0.5)) : 0;
  PetscCall(GramProgressUpdate(((PetscReal)w->done + PetscMin(1, fraction)) / (PetscReal)w->q, note));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* iterations in all at the mean rate so far: to the goal of the column, where refinement takes them in parts */
static PetscReal Predicted(const Watch *w, PetscInt it, PetscReal norm)
{
  const PetscReal target = PetscMin(w->target, w->goal);

  return norm < w->start ? it * PetscLogReal(target / w->start) / PetscLogReal(norm / w->start)
                         : PETSC_MAX_REAL;
}

/* PETSc's own test, and patience that ends. */
static PetscErrorCode Converged(KSP ksp, PetscInt it, PetscReal norm, KSPConvergedReason *reason, void *ctx)
{
  Watch *w = (Watch *)ctx;
  PC     pc;

  PetscFunctionBegin;
  if (it == 0) w->start = norm;
  if (it == 0 && w->factor > 0) w->target = w->factor * norm;
  if (PetscIsInfOrNanReal(norm)) *reason = KSP_DIVERGED_NANORINF;
  else if (norm <= w->target) *reason = KSP_CONVERGED_RTOL;
  else if (norm < w->best) {
    w->best       = norm;
    w->since_best = 0;
  } else if (++w->since_best > GRAM_SOLVE_PATIENCE) {
    w->stagnated = PETSC_TRUE;
    *reason      = KSP_DIVERGED_BREAKDOWN;
  }
  if (*reason || it >= w->left || (it != GRAM_SOLVE_SLOW / 3 && it != 2 * GRAM_SOLVE_SLOW / 3) ||
      Predicted(w, it, norm) <= GRAM_SOLVE_SLOW)
    PetscFunctionReturn(PETSC_SUCCESS);
  PetscCall(KSPGetPC(ksp, &pc));
  PetscCall(GramPCLRVCanGrow(pc, &w->slow));
  if (w->slow) *reason = KSP_CONVERGED_ITS;
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
  PetscReal    rtol, atol;
  PetscInt     max_it;
  PetscBool    chosen, lrv;
  PC           pc;
  GramSchedule schedule;

  PetscFunctionBegin;
  PetscCall(KSPCreate(PetscObjectComm((PetscObject)A), ksp));
  PetscCall(KSPSetOperators(*ksp, A, A));
  PetscCall(KSPSetType(*ksp, KSPCG));
  PetscCall(KSPSetTolerances(*ksp, 1e-8, 0, PETSC_DEFAULT, 10000));
  PetscCall(KSPGetPC(*ksp, &pc));
  PetscCall(GramPCRegister());
  PetscCall(GramScheduleFromOptions(PetscObjectComm((PetscObject)A), &schedule));
  PetscCall(PCSetType(pc, schedule.reproducible ? PCNONE : "lrv"));
  PetscCall(KSPSetFromOptions(*ksp));
  PetscCall(PetscObjectTypeCompare((PetscObject)pc, "lrv", &lrv));
  GramCheckInput(!schedule.reproducible || !lrv, PetscObjectComm((PetscObject)A),
                 "product.reproducible: sums of pc.type lrv depend on the ranks; take none or jacobi");
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

/* methods that would never see the tolerance */
static PetscErrorCode RefuseBlind(KSP ksp)
{
  char      norm[32] = "";
  PetscBool blind;

  PetscFunctionBegin;
  PetscCall(PetscObjectTypeCompare((PetscObject)ksp, KSPPREONLY, &blind));
  GramCheckInput(!blind, PetscObjectComm((PetscObject)ksp), "ksp.type: 'preonly' does not iterate");
  PetscCall(PetscOptionsGetString(NULL, NULL, "-ksp_norm_type", norm, sizeof norm, NULL));
  PetscCall(PetscStrcasecmp(norm, "none", &blind));
  GramCheckInput(!blind, PetscObjectComm((PetscObject)ksp),
                 "ksp.norm_type: 'none' would never see the tolerance; take unpreconditioned, preconditioned "
                 "or natural");
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
                     !strcmp(reason, "direct") || !strcmp(reason, "working_accuracy"));
}

/* AX = A [X, 1] of the true operator, x [q][ldx]; the ones come along once: ||A||_1 = max (A 1)_i, as k > 0 */
static PetscErrorCode TrueProduct(Norms *norms, PetscInt q, const PetscReal *x, PetscInt ldx, Mat *AX)
{
  const PetscInt width = norms->A == 0 ? q + 1 : q;
  PetscInt       n, lda;
  PetscReal     *v;
  Mat            V;
  Vec            ones;

  PetscFunctionBegin;
  PetscCall(MatGetLocalSize(norms->A_true, &n, NULL));
  PetscCall(MatCreateDense(PetscObjectComm((PetscObject)norms->A_true), n, PETSC_DECIDE, PETSC_DETERMINE,
                           width, NULL, &V));
  PetscCall(MatDenseGetLDA(V, &lda));
  PetscCall(MatDenseGetArrayWrite(V, &v));
  for (PetscInt r = 0; r < width; r++) {
    for (PetscInt i = 0; i < n; i++) v[GramAt(r, lda, i)] = r < q ? x[GramAt(r, ldx, i)] : 1;
  }
  PetscCall(MatDenseRestoreArrayWrite(V, &v));
  PetscCall(MatMatMult(norms->A_true, V, MAT_INITIAL_MATRIX, PETSC_DEFAULT, AX));
  if (width > q) {
    PetscCall(MatDenseGetColumnVecRead(*AX, q, &ones));
    PetscCall(VecNorm(ones, NORM_INFINITY, &norms->A));
    PetscCall(MatDenseRestoreColumnVecRead(*AX, q, &ones));
  }
  PetscCall(MatDestroy(&V));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* R = Y - A X by the true operator, and the norms of R and X */
static PetscErrorCode Residual(Norms *norms, PetscInt q, Mat Y, Mat X, Mat R)
{
  PetscInt         ldx;
  const PetscReal *x;
  Mat              AX;

  PetscFunctionBegin;
  PetscCall(MatDenseGetLDA(X, &ldx));
  PetscCall(MatDenseGetArrayRead(X, &x));
  PetscCall(TrueProduct(norms, q, x, ldx, &AX));
  PetscCall(MatDenseRestoreArrayRead(X, &x));
  for (PetscInt r = 0; r < q; r++) {
    Vec y, ax, res, xr;

    PetscCall(MatDenseGetColumnVecRead(X, r, &xr));
    PetscCall(VecNorm(xr, NORM_2, norms->x + r));
    PetscCall(MatDenseRestoreColumnVecRead(X, r, &xr));
    PetscCall(MatDenseGetColumnVecRead(Y, r, &y));
    PetscCall(MatDenseGetColumnVecRead(AX, r, &ax));
    PetscCall(MatDenseGetColumnVecWrite(R, r, &res));
    PetscCall(VecWAXPY(res, -1, ax, y)); /* r = y - A x */
    PetscCall(VecNorm(res, NORM_2, norms->r + r));
    PetscCall(MatDenseRestoreColumnVecWrite(R, r, &res));
    PetscCall(MatDenseRestoreColumnVecRead(AX, r, &ax));
    PetscCall(MatDenseRestoreColumnVecRead(Y, r, &y));
  }
  PetscCall(MatDestroy(&AX));
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

/* r = b - A x by the true operator, and the norms of r and x, of the column at hand */
static PetscErrorCode TrueResidual(Watch *w, Vec b, Vec x, Vec r)
{
  PetscInt         n;
  const PetscReal *xa;
  Mat              AX;
  Vec              ax;

  PetscFunctionBegin;
  PetscCall(VecGetLocalSize(x, &n));
  PetscCall(VecGetArrayRead(x, &xa));
  PetscCall(TrueProduct(w->norms, 1, xa, n, &AX));
  PetscCall(VecRestoreArrayRead(x, &xa));
  PetscCall(MatDenseGetColumnVecRead(AX, 0, &ax));
  PetscCall(VecWAXPY(r, -1, ax, b)); /* r = b - A x */
  PetscCall(MatDenseRestoreColumnVecRead(AX, 0, &ax));
  PetscCall(MatDestroy(&AX));
  PetscCall(VecNorm(r, NORM_2, w->norms->r + w->done));
  PetscCall(VecNorm(x, NORM_2, w->norms->x + w->done));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* KSPSolve() with the iterations that the column has left */
static PetscErrorCode Attempt(KSP ksp, Vec b, Vec x, PetscBool from_x, Watch *w, KSPConvergedReason *reason)
{
  GramMatStats begin, end;
  PetscReal    factor = w->factor;
  PetscInt     its;
  Mat          A;
  PC           pc;

  PetscFunctionBegin;
  w->slow       = PETSC_FALSE;
  w->best       = PETSC_MAX_REAL;
  w->since_best = 0;
  w->stagnated  = PETSC_FALSE;
  PetscCall(KSPSetTolerances(ksp, PETSC_DEFAULT, PETSC_DEFAULT, PETSC_DEFAULT, w->left));
  PetscCall(KSPSetInitialGuessNonzero(ksp, from_x));
  PetscCall(KSPGetOperators(ksp, &A, NULL));
  PetscCall(GramMatGetStats(A, &begin));
  PetscCall(KSPSolve(ksp, b, x));
  PetscCall(GramMatGetStats(A, &end));
  PetscCall(KSPGetConvergedReason(ksp, reason));
  PetscCall(KSPGetIterationNumber(ksp, &its));
  w->report->iterations += end.products - begin.products;
  w->left -= PetscMin(w->left, its);
  if (!w->slow) PetscFunctionReturn(PETSC_SUCCESS);
  PetscCall(KSPGetPC(ksp, &pc));
  PetscCall(GramPCLRVGrow(pc));
  w->factor = 0; /* from where it is to where it was going */
  PetscCall(Attempt(ksp, b, x, PETSC_TRUE, w, reason));
  w->factor = factor;
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* Iterative refinement: A d = r, x += d, r = b - A_true x, while that halves r. What an A of float entries or
   skipped tiles does to d only slows it down, unless A is too far off, or indefinite: then done is PETSC_FALSE,
   and x the best so far. Source: N. J. Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., SIAM 2002,
   chapter 12. */
static PetscErrorCode Refine(KSP ksp, Vec b, Vec x, Vec r, Watch *w, PetscBool *done)
{
  PetscReal *const now = w->norms->r + w->done, *const norm_x = w->norms->x + w->done;
  KSPConvergedReason reason;
  PetscReal          before, norm_x_before;
  PetscBool          pays = PETSC_TRUE;
  Vec                d;

  PetscFunctionBegin;
  PetscCall(VecDuplicate(b, &d));
  PetscCall(VecCopy(b, r)); /* x = 0 */
  *done = PETSC_FALSE;
  while (!*done && pays && w->left > 0) {
    before        = *now;
    norm_x_before = *norm_x;
    w->factor     = PetscMax(REFINE_BY, w->goal / before / 2);
    PetscCall(Attempt(ksp, r, d, PETSC_FALSE, w, &reason));
    PetscCall(VecCopy(x, w->x_best));
    PetscCall(VecAXPY(x, 1, d));
    PetscCall(TrueResidual(w, b, x, r));
    if (!(*now <= before)) { /* NaN included */
      PetscCall(VecCopy(w->x_best, x));
      *now    = before;
      *norm_x = norm_x_before;
    }
    pays  = (PetscBool)(reason > 0 && *now <= before / 2);
    *done = (PetscBool)(*now <= PetscMax(w->goal, WorkingAccuracy(w->norms, w->done)));
  }
  w->factor = 0;
  PetscCall(VecCopy(x, w->x_best));
  w->norm_best = *now;
  PetscCall(VecDestroy(&d));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* The KSP, then restarts while the true residual is above the goal and still halves. What a failing KSP leaves in x
   is exchanged for the best iterate on the way. */
static PetscErrorCode Iterate(KSP ksp, Vec b, Vec x, Vec r, PetscInt attempts, PetscBool from_x, Watch *w,
                              KSPConvergedReason *reason)
{
  const PetscReal *now    = w->norms->r + w->done;
  PetscReal        before = PETSC_MAX_REAL, norm, norm_x;

  PetscFunctionBegin;
  w->target = w->goal;
  for (PetscInt attempt = 0; attempt < attempts; attempt++) {
    PetscCall(Attempt(ksp, b, x, (PetscBool)(from_x || attempt > 0), w, reason));
    PetscCall(TrueResidual(w, b, x, r));
    if (*reason < 0 || *now <= w->goal || !(*now <= before / 2)) break;
    before = *now;
    w->target *= 0.5 * w->goal / *now; /* the KSP may watch another norm: ask it for as much less */
  }
  if (!(*now <= w->norm_best)) { /* NaN included */
    norm   = *now;
    norm_x = w->norms->x[w->done];
    PetscCall(TrueResidual(w, b, w->x_best, r));
    if (!(norm <= *now)) PetscCall(VecCopy(w->x_best, x));
    else {
      w->norms->r[w->done] = norm;
      w->norms->x[w->done] = norm_x;
    }
  }
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* One column. Refinement that does not get there hands over to the true operator, for this column and the rest. */
static PetscErrorCode SolveColumn(KSP ksp, Vec b, Vec x, PetscReal rtol, PetscReal atol, Watch *w,
                                  char reason[32])
{
  KSPConvergedReason ksp_reason = KSP_DIVERGED_ITS;
  PetscBool          refined = w->refine, done = PETSC_FALSE;
  Mat                A, P;
  Vec                r;

  PetscFunctionBegin;
  w->norm_b = w->norms->b[w->done];
  PetscCall(VecSet(x, 0));
  PetscCall(PetscStrncpy(reason, "relative_tolerance", 32));
  w->n_column = 0;
  if (w->norm_b == 0) PetscCall(HistoryAdd(w, 0));
  if (w->norm_b == 0) PetscFunctionReturn(PETSC_SUCCESS);
  PetscCall(VecDuplicate(b, &r));
  PetscCall(VecDuplicate(b, &w->x_best));
  PetscCall(VecSet(w->x_best, 0));
  w->norm_best = w->norm_b;
  w->goal      = PetscMax(rtol * w->norm_b, atol);
  w->left      = w->max_it;
  if (refined) {
    PetscCall(Refine(ksp, b, x, r, w, &done));
    if (!done && w->left > 0) {
      w->refine             = PETSC_FALSE;
      w->report->exact_from = w->report->iterations;
      PetscCall(KSPGetOperators(ksp, NULL, &P));
      PetscCall(KSPSetOperators(ksp, w->norms->A_true, P));
    }
  }
  PetscCall(KSPGetOperators(ksp, &A, NULL));
  if (!w->refine)
    PetscCall(Iterate(ksp, b, x, r, A == w->norms->A_true ? RESTARTS + 1 : 1, refined, w, &ksp_reason));
  if (w->norms->r[w->done] <= w->goal)
    PetscCall(PetscStrncpy(
        reason, w->norms->r[w->done] <= rtol * w->norm_b ? "relative_tolerance" : "absolute_tolerance", 32));
  else PetscCall(PetscStrncpy(reason, done ? "working_accuracy" : ReasonName(ksp_reason, w->stagnated), 32));
  PetscCall(VecDestroy(&w->x_best));
  PetscCall(VecDestroy(&r));
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode SolveIterative(KSP ksp, Norms *norms, PetscBool refine, Mat Y, Mat C, PetscInt q,
                                     const PetscReal tolerance[2], const PetscReal *scale, GramReport *report)
{
  Watch w = {.report = report, .norms = norms, .q = q, .refine = refine};

  PetscFunctionBegin;
  PetscCall(KSPGetTolerances(ksp, NULL, NULL, NULL, &w.max_it));
  PetscCall(KSPMonitorSet(ksp, Monitor, &w, NULL));
  PetscCall(KSPSetConvergenceTest(ksp, Converged, &w, NULL));
  PetscCall(GramProgressBegin("solve", 0));
  for (PetscInt r = 0; r < q; r++) {
    Vec  b, x;
    char reason[32];

    PetscCall(MatDenseGetColumnVecRead(Y, r, &b));
    PetscCall(MatDenseGetColumnVecWrite(C, r, &x));
    w.done = r;
    PetscCall(SolveColumn(ksp, b, x, tolerance[0], tolerance[1] * scale[r], &w, reason));
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
static PetscErrorCode SolveDirect(Mat A, Norms *norms, Mat Y, Mat C, PetscInt q, GramReport *report)
{
  PetscReal *r_before, *x_before, before = PETSC_INFINITY, now;
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
  PetscCall(PetscMalloc2(q, &r_before, q, &x_before));
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
    PetscCall(Residual(norms, q, Y, C, R));
    now                                  = LargestRatio(q, norms->r, norms->b);
    report->history[report->n_history++] = now;
    if (now > before) { /* that step did harm */
      PetscCall(MatCopy(C_before, C, SAME_NONZERO_PATTERN));
      PetscCall(PetscArraycpy(norms->r, r_before, q));
      PetscCall(PetscArraycpy(norms->x, x_before, q));
    }
    if (now > before / 2 || now == 0) break;
    before = now;
    PetscCall(MatCopy(C, C_before, SAME_NONZERO_PATTERN));
    PetscCall(PetscArraycpy(r_before, norms->r, q));
    PetscCall(PetscArraycpy(x_before, norms->x, q));
  }
  PetscCall(MatDestroy(&R));
  PetscCall(MatDestroy(&C_before));
  PetscCall(PetscFree2(r_before, x_before));
  PetscCall(GramDirectDestroy(&direct));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* The certificate: residuals of what is handed out decide what is claimed. */
static PetscErrorCode Certify(Norms *norms, PetscInt q, const PetscReal tolerance[2], const PetscReal *scale,
                              GramReport *report)
{
  PetscBool met = PETSC_TRUE, floor = PETSC_TRUE, direct = (PetscBool)(report->method == GRAM_SOLVE_DIRECT),
            failed;
  Mat AX;

  PetscFunctionBegin;
  if (norms->A == 0) { /* nothing but zeros was handed out, or no factor was found */
    PetscCall(TrueProduct(norms, 0, NULL, 0, &AX));
    PetscCall(MatDestroy(&AX));
  }
  report->norm_A            = norms->A;
  report->relative_residual = LargestRatio(q, norms->r, norms->b);
  for (PetscInt r = 0; r < q; r++) {
    const PetscBool within =
        (PetscBool)(norms->r[r] <= PetscMax(tolerance[0] * norms->b[r], tolerance[1] * scale[r]));

    report->backward_error =
        PetscMax(report->backward_error, norms->r[r] / (norms->A * norms->x[r] + norms->b[r] + 1e-300));
    met   = (PetscBool)(met && within);
    floor = (PetscBool)(floor && (within || norms->r[r] <= WorkingAccuracy(norms, r)));
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

/* bytes a rank needs to predict at m targets from n points: all points, panels and its share of rows */
static PetscLogDouble PredictBytes(PetscInt n, PetscInt m, PetscInt dim, PetscInt q, PetscMPIInt ranks)
{
  return 8.0 * ((PetscLogDouble)n * (2.5 * dim + PetscMin(q, GRAM_PANEL)) +
                ((PetscLogDouble)n + (PetscLogDouble)m) * (6.0 * dim + 4.0 * q) / ranks);
}

PetscErrorCode GramPredictEstimate(MPI_Comm comm, GramBackend backend, PetscInt n, PetscInt m, PetscInt dim,
                                   PetscInt q)
{
  PetscMPIInt    ranks;
  PetscLogDouble need, have;
  const char    *device;

  PetscFunctionBegin;
  PetscCallMPI(MPI_Comm_size(comm, &ranks));
  PetscCall(GramMemoryCheck(
      comm, n, PredictBytes(n, m, dim, q, ranks) + GramBackendHostBytes(backend, n + m / ranks, dim, q),
      "predict", NULL, 0));
  PetscCall(GramBackendGetInfo(backend, NULL, &device, NULL));
  PetscCall(GramCrossDeviceBytes(comm, backend, m, n, dim, q, &need, &have));
  PetscCall(GramMemoryCheckDevice(comm, need, have, device));
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramSolveEstimate(MPI_Comm comm, GramBackend backend, PetscInt n, PetscInt m, PetscInt dim,
                                 PetscInt q, char line[], size_t size)
{
  GramSolveMethod method;
  GramSchedule    schedule;
  PetscMPIInt     ranks;
  PetscLogDouble  bytes, need, predict = 0, have;
  const char     *device;
  GramPrecision   precision;
  PetscInt        matrices;

  PetscFunctionBegin;
  PetscCall(MethodFromOptions(comm, n, &method));
  PetscCallMPI(MPI_Comm_size(comm, &ranks));
  PetscCall(GramScheduleFromOptions(comm, &schedule));
  PetscCall(GramBackendGetInfo(backend, NULL, &device, &precision));
  matrices = schedule.tolerance > 0 || precision != GRAM_DOUBLE ? 2 : 1;
  /* on every rank: the matrix with panels for q + 1 columns (GRAM_PANEL at most), and the true one where that is
     another; spread: points, the sort, values, coefficients and work vectors */
  bytes = matrices *
              (GramScheduleBytes(&schedule, n, dim, q + 1) + GramBackendHostBytes(backend, n, dim, q + 1)) +
          8.0 * (PetscLogDouble)n * (8.0 * dim + 8.0 * q + 8.0) / ranks;
  if (m) bytes += PredictBytes(n, m, dim, q, ranks) + GramBackendHostBytes(backend, n + m / ranks, dim, q);
  if (method == GRAM_SOLVE_DIRECT) bytes += DirectBytes(n, ranks);
  PetscCall(
      GramMemoryCheck(comm, n, bytes, method == GRAM_SOLVE_DIRECT ? "direct" : "iterative", line, size));
  if (m) PetscCall(GramCrossDeviceBytes(comm, backend, m, n, dim, q, &predict, &have));
  PetscCall(GramScheduleDeviceBytes(&schedule, backend, n, dim, q + 1, &need, &have));
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

/* what the preconditioner was in the end, and the seconds it took to set up, each time */
static PetscErrorCode PreconditionerReport(KSP ksp, GramReport *report)
{
  PetscBool   lrv;
  GramLRVInfo info;
  PCType      type;
  PC          pc;

  PetscFunctionBegin;
  if (report->method == GRAM_SOLVE_DIRECT) PetscFunctionReturn(PETSC_SUCCESS);
  PetscCall(KSPGetPC(ksp, &pc));
  PetscCall(PCGetType(pc, &type));
  PetscCall(PetscStrncpy(report->pc, type, sizeof report->pc));
  PetscCall(PCViewFromOptions(pc, NULL, "-pc_view"));
  PetscCall(PetscStrcmp(type, "lrv", &lrv));
  if (!lrv) PetscFunctionReturn(PETSC_SUCCESS);
  PetscCall(GramPCLRVGetInfo(pc, &info));
  report->pc_rank      = info.rank;
  report->pc_neighbors = info.neighbors;
  report->setup_seconds += info.seconds;
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramSolve(Mat A, Mat A_true, Mat Y, Mat *C, GramReport *report)
{
  PetscReal     tolerance[2], *scale; /* rtol, atol; of each column */
  PetscInt      n, q;
  GramPrecision precision;
  Norms         norms = {.A_true = A_true};
  Mat           B; /* Y, its columns scaled */
  KSP           ksp;

  PetscFunctionBegin;
  PetscCall(PetscMemzero(report, sizeof *report));
  report->exact_from = -1;
  PetscCall(MatGetSize(Y, &n, &q));
  PetscCall(MethodFromOptions(PetscObjectComm((PetscObject)A), n, &report->method));
  PetscCall(GramMatGetPrecision(A, &precision));
  PetscCall(KSPCreateGram(A, &ksp));
  if (report->method == GRAM_SOLVE_ITERATIVE) PetscCall(RefuseBlind(ksp));
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
  PetscCall(PetscCalloc3(q, &norms.b, q, &norms.r, q, &norms.x));
  PetscCall(ColumnNorms(B, q, norms.b));
  PetscCall(PetscArraycpy(norms.r, norms.b, q)); /* C = 0 */
  if (report->method == GRAM_SOLVE_DIRECT) PetscCall(SolveDirect(A, &norms, B, *C, q, report));
  else
    PetscCall(SolveIterative(ksp, &norms, (PetscBool)(A != A_true && precision != GRAM_SINGLE), B, *C, q,
                             tolerance, scale, report));
  PetscCall(PreconditionerReport(ksp, report));
  PetscCall(Certify(&norms, q, tolerance, scale, report));
  PetscCall(PetscTimeAdd(&report->solve_seconds));
  report->solve_seconds -= report->setup_seconds;

  PetscCall(ScaleColumns(*C, q, scale, PETSC_TRUE));
  PetscCall(PairsPerSecond(A, A_true, &report->pairs_per_second));
  PetscCall(MatDestroy(&B));
  PetscCall(PetscFree3(norms.b, norms.r, norms.x));
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
