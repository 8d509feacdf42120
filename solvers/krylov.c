#include <math.h>

#include <petsc/private/kspimpl.h>

#include "krylov.h"
#include "lrv.h"
#include "pcg.h"
#include "progress.h"

#define RESTARTS      5       /* of a KSP whose recursion lost touch with the residual */
#define REFINE_BY     1e-2    /* how much one refinement asks of products that are less than true, at most */
#define SAFE          4       /* times what they are expected to reach */
#define ADMISSIBLE    3       /* times their error has to be below the least eigenvalue */
#define UNIT_FLOAT    6e-8    /* unit roundoff of float */
#define SAMPLED       8       /* rows */
#define CHUNK         256     /* columns of them at once */
#define INVERSE_STEPS 8       /* of the power method on M^-1 */
#define RITZ_MOST     1000000 /* iterations for whose coefficients PETSc takes memory at once */
#define LOOK          100     /* iterations without progress after which x is looked at */
#define PANEL         (GRAM_PANEL - 1) /* columns at once: the first product takes ones along */

/* A right-hand side on its way. */
typedef struct {
  PetscReal          goal, norm_b; /* of the true residual, ||b|| */
  PetscInt           left;         /* iterations it may still take */
  KSPConvergedReason reason;       /* of its last attempt */
  PetscReal          inner;        /* refining: what an attempt asks for, as a factor */
  PetscReal  factor, target;       /* of the attempt under way: from its first norm on, or the norm itself */
  PetscReal  best;                 /* its least norm */
  PetscInt   since_best;
  PetscReal  start; /* norm where the preconditioner began, */
  PetscInt   its;   /* and iterations since, of all attempts */
  PetscBool  stagnated;
  PetscReal  norm_best; /* of the residual of the column of Krylov.best */
  PetscReal  fraction;  /* of the way to the goal, for the progress shown */
  PetscReal *history;   /* relative norms */
  PetscInt   n_history, capacity;
} Column;

/* A panel of right-hand sides. */
typedef struct {
  KSP                     ksp;
  PC                      pc;
  GramResidual           *residual;
  GramReport             *report;
  PetscBool               batched, ritz; /* solve columns together; the method has Ritz values */
  PetscBool               refine;
  PetscBool               slow;        /* at this rate it takes too long, and lrv can grow */
  PetscInt                ritz_of;     /* iterations that the eigenvalues of the report come from */
  PetscInt                q, first, n; /* columns in all, and those of the panel */
  PetscReal               inner;       /* to begin with */
  Column                 *column;      /* [n] */
  const GramSolveControl *control;
  GramRequest             request;      /* what control wants */
  PetscInt                asked;        /* iteration of the attempt under way when it was last asked */
  Mat                     P;            /* [n] last directions of cg; NULL without control */
  GramPCGDirections      *directions;   /* of the attempt under way */
  Mat                     X_all, P_all; /* [q] columns, */
  PetscReal              *rz_all;       /* and what belongs to them */
  PetscInt               *its_all, max_it, growths;
  PetscLogDouble          pc_bytes; /* of the largest set-up of lrv */
  Mat             B, X, R, best; /* [n] columns: best is handed out when the last iterate turns out worse */
  PetscInt        n_at;          /* the attempt under way: its columns, */
  const PetscInt *at;
  Mat             X_at; /* and where their iterates are; NULL: in the KSP */
} Krylov;

/* ---- the KSP */

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

PetscErrorCode GramKrylovCreate(Mat A, KSP *ksp)
{
  MPI_Comm     comm = PetscObjectComm((PetscObject)A);
  PetscReal    rtol, atol;
  PetscInt     max_it;
  PetscBool    chosen, lrv, cg;
  PC           pc;
  GramSchedule schedule;

  PetscFunctionBegin;
  PetscCall(KSPCreate(comm, ksp));
  PetscCall(KSPSetOperators(*ksp, A, A));
  PetscCall(KSPSetType(*ksp, KSPCG));
  PetscCall(KSPSetTolerances(*ksp, 1e-8, 0, PETSC_DEFAULT, 10000));
  PetscCall(KSPGetPC(*ksp, &pc));
  PetscCall(GramPCRegister());
  PetscCall(GramScheduleFromOptions(comm, &schedule));
  PetscCall(PCSetType(pc, schedule.reproducible ? PCNONE : "lrv"));
  PetscCall(KSPSetFromOptions(*ksp));
  PetscCall(PetscObjectTypeCompare((PetscObject)pc, "lrv", &lrv));
  GramCheckInput(!schedule.reproducible || !lrv, comm,
                 "product.reproducible: sums of pc.type lrv depend on the ranks; take none or jacobi");
  PetscCall(KSPGetTolerances(*ksp, &rtol, &atol, NULL, &max_it));
  GramCheckInput(rtol >= 0 && rtol < 1, comm, "ksp.rtol: %.6g is not in [0, 1)", (double)rtol);
  GramCheckInput(atol >= 0, comm, "ksp.atol: %.6g is not >= 0", (double)atol);
  GramCheckInput(max_it >= 0, comm, "ksp.max_it: %" PetscInt_FMT " is not >= 0", max_it);
  PetscCall(PetscOptionsHasName(NULL, NULL, "-ksp_norm_type", &chosen));
  if (!chosen) PetscCall(DefaultNorm(*ksp));
  PetscCall(PetscObjectTypeCompare((PetscObject)*ksp, KSPCG, &cg));
  if (cg && max_it <= RITZ_MOST) PetscCall(KSPSetComputeSingularValues(*ksp, PETSC_TRUE));
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramKrylovCheck(KSP ksp)
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

/* ---- one iteration of a column */

static PetscErrorCode HistoryAdd(Column *w, PetscReal relative)
{
  PetscFunctionBegin;
  if (w->n_history == w->capacity) {
    w->capacity = PetscMax(64, 2 * w->capacity);
    PetscCall(PetscRealloc((size_t)w->capacity * sizeof *w->history, &w->history));
  }
  w->history[w->n_history++] = relative;
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode Progress(Krylov *k, const Column *w, PetscReal relative)
{
  PetscReal sum = (PetscReal)k->first;
  char      note[80];

  PetscFunctionBegin;
  for (PetscInt c = 0; c < k->n; c++) sum += k->column[c].fraction;
  PetscCall(PetscSNPrintf(note, sizeof note, "iteration %" PetscInt_FMT ", residual %.1e", w->n_history - 1,
                          (double)relative));
  PetscCall(GramProgressUpdate(sum / (PetscReal)k->q, note));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* best = the iterate of column c of the panel, the at-th of the attempt */
static PetscErrorCode KeepBest(Krylov *k, PetscInt c, PetscInt at)
{
  Vec best, x;

  PetscFunctionBegin;
  PetscCall(MatDenseGetColumnVecWrite(k->best, c, &best));
  if (!k->X_at) PetscCall(KSPBuildSolution(k->ksp, best, NULL));
  else {
    PetscCall(MatDenseGetColumnVecRead(k->X_at, at, &x));
    PetscCall(VecCopy(x, best));
    PetscCall(MatDenseRestoreColumnVecRead(k->X_at, at, &x));
  }
  PetscCall(MatDenseRestoreColumnVecWrite(k->best, c, &best));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* history, the best iterate, what is shown */
static PetscErrorCode Watch(Krylov *k, PetscInt at, PetscInt it, PetscReal norm)
{
  const PetscInt  c        = k->at[at];
  Column         *w        = k->column + c;
  const PetscReal relative = norm / w->norm_b,
                  goal     = PetscMax(w->goal / w->norm_b, PETSC_SMALL * PETSC_SMALL);

  PetscFunctionBegin;
  if (it > 0 || !w->n_history) PetscCall(HistoryAdd(w, relative));
  if (!k->refine &&
      norm < 0.5 * w->norm_best) { /* a copy for each halving: few, and never far from the best */
    PetscCall(KeepBest(k, c, at));
    w->norm_best = norm;
  }
  w->fraction = relative < 1 && relative > 0
                    ? PetscMin(1, PetscLogReal(relative) / PetscLogReal(PetscMin(goal, 0.5)))
                    : 0;
  PetscCall(Progress(k, w, relative));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* iterations to the goal at the mean rate of this preconditioner, those it has had included */
static PetscReal Predicted(const Column *w, PetscReal norm)
{
  const PetscReal target = PetscMin(w->target, w->goal);

  return norm < w->start ? w->its * PetscLogReal(target / w->start) / PetscLogReal(norm / w->start)
                         : PETSC_MAX_REAL;
}

/* Is norm below what rounding of the iterate leaves of a residual? Then more iterations are no use. */
static PetscErrorCode AtFloor(Krylov *k, PetscInt at, PetscReal norm, PetscBool *floor)
{
  PetscReal norm_A, norm_x;
  Vec       x;

  PetscFunctionBegin;
  PetscCall(GramResidualNormA(k->residual, &norm_A));
  if (k->X_at) {
    PetscCall(MatDenseGetColumnVecRead(k->X_at, at, &x));
    PetscCall(VecNorm(x, NORM_2, &norm_x));
    PetscCall(MatDenseRestoreColumnVecRead(k->X_at, at, &x));
  } else {
    PetscCall(KSPBuildSolution(k->ksp, NULL, &x));
    PetscCall(VecNorm(x, NORM_2, &norm_x));
  }
  *floor = (PetscBool)(norm <= PETSC_MACHINE_EPSILON * norm_A * norm_x && !PetscIsInfOrNanReal(norm_x));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* PETSc's own test, and patience that ends. */
static PetscErrorCode Test(Krylov *k, PetscInt at, PetscInt it, PetscReal norm, KSPConvergedReason *reason)
{
  Column   *w     = k->column + k->at[at];
  PetscBool floor = PETSC_FALSE;

  PetscFunctionBegin;
  if (it > 0) w->its++;
  else if (w->its == 0) w->start = norm;
  if (it == 0 && w->factor > 0) w->target = w->factor * norm;
  if (PetscIsInfOrNanReal(norm)) *reason = KSP_DIVERGED_NANORINF;
  else if (norm < w->best) {
    w->best       = norm;
    w->since_best = 0;
    if (norm <= w->target) *reason = KSP_CONVERGED_RTOL;
  } else if (++w->since_best > GRAM_SOLVE_PATIENCE) {
    w->stagnated = PETSC_TRUE;
    *reason      = KSP_DIVERGED_BREAKDOWN;
  } else if (w->since_best % LOOK == 0) {
    PetscCall(AtFloor(k, at, norm, &floor));
    if (floor) *reason = KSP_CONVERGED_HAPPY_BREAKDOWN;
  }
  if (*reason) PetscFunctionReturn(PETSC_SUCCESS);
  if (it >= w->left) *reason = KSP_DIVERGED_ITS;
  else if (it > 0 && (w->its == GRAM_SOLVE_SLOW / 3 || w->its == 2 * GRAM_SOLVE_SLOW / 3)) {
    if (!k->slow && Predicted(w, norm) > GRAM_SOLVE_SLOW && w->left - it > GRAM_SOLVE_SLOW / 3)
      PetscCall(GramPCLRVCanGrow(k->pc, &k->slow));
  }
  if (!*reason && k->slow) *reason = KSP_CONVERGED_ITS; /* those beside it wait for the better one too */
  if (k->control && k->control->request && !k->slow && it > 0 && it != k->asked) {
    k->asked = it;
    PetscCall(k->control->request(k->control->ctx, &k->request));
  }
  if (!*reason && k->request) *reason = KSP_CONVERGED_ITS;
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* hooks of the KSP, which solves one column, and of GramPCG() */

static PetscErrorCode MonitorKSP(KSP ksp, PetscInt it, PetscReal norm, void *ctx)
{
  PetscFunctionBegin;
  (void)ksp;
  PetscCall(Watch((Krylov *)ctx, 0, it, norm));
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode ConvergedKSP(KSP ksp, PetscInt it, PetscReal norm, KSPConvergedReason *reason,
                                   void *ctx)
{
  PetscFunctionBegin;
  (void)ksp;
  *reason = KSP_CONVERGED_ITERATING;
  PetscCall(Test((Krylov *)ctx, 0, it, norm, reason));
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode TestPCG(void *ctx, PetscInt column, const GramPCGState *state,
                              KSPConvergedReason *reason)
{
  PetscFunctionBegin;
  PetscCall(Watch((Krylov *)ctx, column, state->it, state->norm));
  PetscCall(Test((Krylov *)ctx, column, state->it, state->norm, reason));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* ---- panels of some columns */

static PetscErrorCode PanelCreate(const Krylov *k, PetscInt n, Mat *panel)
{
  PetscInt rows;

  PetscFunctionBegin;
  PetscCall(MatGetLocalSize(k->residual->A, &rows, NULL));
  PetscCall(MatCreateDense(PetscObjectComm((PetscObject)k->ksp), rows, PETSC_DECIDE, PETSC_DETERMINE, n, NULL,
                           panel));
  PetscCall(GramMatMatchPanel(k->residual->A, *panel));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* to[c_to] = from[c_from] */
static PetscErrorCode ColumnCopy(Mat from, PetscInt c_from, Mat to, PetscInt c_to)
{
  Vec x, y;

  PetscFunctionBegin;
  PetscCall(MatDenseGetColumnVecRead(from, c_from, &x));
  PetscCall(MatDenseGetColumnVecWrite(to, c_to, &y));
  PetscCall(VecCopy(x, y));
  PetscCall(MatDenseRestoreColumnVecWrite(to, c_to, &y));
  PetscCall(MatDenseRestoreColumnVecRead(from, c_from, &x));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* x += column c of a panel */
static PetscErrorCode AddColumn(Mat panel, PetscInt c, Vec x)
{
  Vec d;

  PetscFunctionBegin;
  PetscCall(MatDenseGetColumnVecRead(panel, c, &d));
  PetscCall(VecAXPY(x, 1, d));
  PetscCall(MatDenseRestoreColumnVecRead(panel, c, &d));
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode ZeroColumn(Mat panel, PetscInt c)
{
  Vec x;

  PetscFunctionBegin;
  PetscCall(MatDenseGetColumnVecWrite(panel, c, &x));
  PetscCall(VecZeroEntries(x));
  PetscCall(MatDenseRestoreColumnVecWrite(panel, c, &x));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* part = the columns at [n] of panel */
static PetscErrorCode PartCreate(const Krylov *k, Mat panel, PetscInt n, const PetscInt at[], Mat *part)
{
  PetscFunctionBegin;
  PetscCall(PanelCreate(k, n, part));
  for (PetscInt c = 0; c < n; c++) PetscCall(ColumnCopy(panel, at[c], *part, c));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* and back: the columns at [n] of panel = part, which is destroyed */
static PetscErrorCode PartReturn(Mat *part, PetscInt n, const PetscInt at[], Mat panel)
{
  PetscFunctionBegin;
  for (PetscInt c = 0; c < n; c++) PetscCall(ColumnCopy(*part, c, panel, at[c]));
  PetscCall(MatDestroy(part));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* R = B - A X of the columns at [n] by the true operator */
static PetscErrorCode TrueResidual(Krylov *k, Mat X, PetscInt n, const PetscInt at[])
{
  PetscInt columns[GRAM_PANEL];
  Mat      B_at, X_at, R_at;

  PetscFunctionBegin;
  if (!n) PetscFunctionReturn(PETSC_SUCCESS);
  for (PetscInt c = 0; c < n; c++) columns[c] = k->first + at[c];
  PetscCall(PartCreate(k, k->B, n, at, &B_at));
  PetscCall(PartCreate(k, X, n, at, &X_at));
  PetscCall(PanelCreate(k, n, &R_at));
  PetscCall(GramResidualUpdate(k->residual, n, columns, B_at, X_at, R_at));
  PetscCall(PartReturn(&R_at, n, at, k->R));
  PetscCall(MatDestroy(&B_at));
  PetscCall(MatDestroy(&X_at));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* norms of the column c of the panel: of its true residual, of x */
static PetscReal *Now(const Krylov *k, PetscInt c) { return k->residual->r + k->first + c; }
static PetscReal *NormX(const Krylov *k, PetscInt c) { return k->residual->x + k->first + c; }

/* ---- attempts */

/* Ritz values of the longest run with this preconditioner */
static void KeepRitz(Krylov *k, PetscInt its, PetscReal least, PetscReal largest)
{
  if (its <= k->ritz_of || !(least <= largest)) return;
  k->ritz_of                = its;
  k->report->eigenvalue_min = least;
  k->report->eigenvalue_max = largest;
}

/* a set-up has come to that */
static PetscErrorCode Settled(Krylov *k)
{
  PetscBool      lrv;
  GramLRVInfo    info;
  PetscLogDouble bytes;

  PetscFunctionBegin;
  PetscCall(PetscObjectTypeCompare((PetscObject)k->pc, "lrv", &lrv));
  if (!lrv || !k->control || !k->control->settled) PetscFunctionReturn(PETSC_SUCCESS);
  PetscCall(GramPCLRVGetInfo(k->pc, &info));
  PetscCallMPI(
      MPI_Allreduce(&info.bytes, &bytes, 1, MPI_DOUBLE, MPI_SUM, PetscObjectComm((PetscObject)k->ksp)));
  k->pc_bytes = PetscMax(k->pc_bytes, bytes);
  PetscCall(k->control->settled(k->control->ctx, &info, k->pc_bytes));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* one column by the KSP */
static PetscErrorCode AttemptKSP(Krylov *k, Mat B, Mat X, PetscBool from_x)
{
  Column      *w = k->column + k->at[0];
  GramMatStats begin, end;
  PetscInt     its;
  PetscReal    least, largest;
  Mat          A;
  Vec          b, x;

  PetscFunctionBegin;
  w->reason = KSP_DIVERGED_ITS;
  if (!w->left) PetscFunctionReturn(PETSC_SUCCESS); /* cg would store a coefficient all the same */
  PetscCall(KSPSetTolerances(k->ksp, PETSC_DEFAULT, PETSC_DEFAULT, PETSC_DEFAULT, w->left));
  PetscCall(KSPSetInitialGuessNonzero(k->ksp, from_x));
  PetscCall(KSPGetOperators(k->ksp, &A, NULL));
  PetscCall(GramMatGetStats(A, &begin));
  PetscCall(MatDenseGetColumnVecRead(B, 0, &b));
  PetscCall(MatDenseGetColumnVec(X, 0, &x));
  PetscCall(KSPSolve(k->ksp, b, x));
  PetscCall(MatDenseRestoreColumnVec(X, 0, &x));
  PetscCall(MatDenseRestoreColumnVecRead(B, 0, &b));
  PetscCall(GramMatGetStats(A, &end));
  PetscCall(KSPGetConvergedReason(k->ksp, &w->reason));
  PetscCall(KSPGetIterationNumber(k->ksp, &its));
  k->report->iterations += end.products - begin.products;
  w->left -= PetscMin(w->left, its);
  if (k->ritz && its > 0) {
    PetscCall(KSPComputeExtremeSingularValues(k->ksp, &largest, &least));
    KeepRitz(k, its, least, largest);
  }
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* all of them together */
static PetscErrorCode AttemptPCG(Krylov *k, Mat B, Mat X, PetscBool from_x)
{
  GramPCGColumn done[GRAM_PANEL];
  PetscInt      products = 0;
  Mat           A;

  PetscFunctionBegin;
  PetscCall(KSPSetUp(k->ksp));
  PetscCall(KSPGetOperators(k->ksp, &A, NULL));
  k->X_at = X;
  PetscCall(GramPCG(A, k->pc, B, X, from_x, k->directions, TestPCG, k, done, &products));
  k->X_at = NULL;
  k->report->iterations += products;
  k->ksp->its = 0;
  for (PetscInt c = 0; c < k->n_at; c++) {
    Column *w = k->column + k->at[c];

    w->reason = done[c].reason;
    w->left -= PetscMin(w->left, done[c].iterations);
    KeepRitz(k, done[c].iterations, done[c].eigenvalue_min, done[c].eigenvalue_max);
    k->ksp->its = PetscMax(k->ksp->its, done[c].iterations);
    if (!c || done[c].reason < 0) k->ksp->reason = done[c].reason;
  }
  PetscCall(KSPViewFromOptions(k->ksp, NULL, "-ksp_view"));
  PetscCall(KSPConvergedReasonViewFromOptions(k->ksp));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* A X = B for the columns at [n] of the panel, each to its target, or by its factor, with the iterations it has left */
static PetscErrorCode Attempt(Krylov *k, PetscInt n, const PetscInt at[], Mat B, Mat X, PetscBool from_x)
{
  PetscInt slow[GRAM_PANEL], places[GRAM_PANEL], n_slow = 0;
  Mat      B_slow, X_slow;

  PetscFunctionBegin;
  if (n > 1 && !k->batched) { /* one after the other */
    for (PetscInt c = 0; c < n; c++) {
      Mat b, x;

      PetscCall(PartCreate(k, B, 1, &c, &b));
      PetscCall(PartCreate(k, X, 1, &c, &x));
      PetscCall(Attempt(k, 1, at + c, b, x, from_x));
      PetscCall(PartReturn(&x, 1, &c, X));
      PetscCall(MatDestroy(&b));
    }
    PetscFunctionReturn(PETSC_SUCCESS);
  }
  k->n_at    = n;
  k->at      = at;
  k->slow    = PETSC_FALSE;
  k->asked   = 0;
  k->request = GRAM_GO_ON;
  for (PetscInt c = 0; c < n; c++) {
    Column *w = k->column + at[c];

    w->best       = PETSC_MAX_REAL;
    w->since_best = 0;
    w->stagnated  = PETSC_FALSE;
  }
  PetscCall(n > 1 || (k->batched && k->control) ? AttemptPCG(k, B, X, from_x) : AttemptKSP(k, B, X, from_x));
  k->n_at       = 0;
  k->at         = NULL;
  k->directions = NULL; /* of this preconditioner */
  if (!k->slow) PetscFunctionReturn(PETSC_SUCCESS);

  /* from where it is to where it was going, with a better preconditioner */
  PetscCall(GramPCLRVGrow(k->pc));
  PetscCall(PCSetUp(k->pc));
  PetscCall(Settled(k));
  k->growths++;
  k->ritz_of                = 0;
  k->report->eigenvalue_min = k->report->eigenvalue_max = NAN;
  for (PetscInt c = 0; c < k->n; c++) k->column[c].its = 0;
  for (PetscInt c = 0; c < n; c++) {
    if (k->column[at[c]].reason != KSP_CONVERGED_ITS) continue;
    slow[n_slow]            = at[c];
    places[n_slow++]        = c;
    k->column[at[c]].factor = 0;
  }
  PetscCall(PartCreate(k, B, n_slow, places, &B_slow));
  PetscCall(PartCreate(k, X, n_slow, places, &X_slow));
  PetscCall(Attempt(k, n_slow, slow, B_slow, X_slow, PETSC_TRUE));
  PetscCall(PartReturn(&X_slow, n_slow, places, X));
  PetscCall(MatDestroy(&B_slow));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* ---- states to go on from */

/* X is where it belongs, and so are the directions that mean something */
static PetscErrorCode Save(Krylov *k)
{
  GramSolveState state = {.X          = k->X_all,
                          .P          = k->P_all,
                          .rz         = k->rz_all,
                          .iterations = k->its_all,
                          .total      = k->report->iterations,
                          .n_history  = k->report->n_history,
                          .history    = k->report->history};
  PetscBool      lrv;

  PetscFunctionBegin;
  for (PetscInt c = 0; c < k->n; c++) {
    const Column *w = k->column + c;

    k->its_all[k->first + c] = k->max_it - w->left;
    if (w->n_history <= state.n_history) continue;
    state.n_history = w->n_history;
    state.history   = w->history;
  }
  PetscCall(PetscObjectTypeCompare((PetscObject)k->pc, "lrv", &lrv));
  if (lrv) PetscCall(GramPCLRVGetGrowth(k->pc, &state.growth));
  PetscCall(k->control->save(k->control->ctx, &state));
  k->report->stopped = (PetscBool)(k->request == GRAM_STOP);
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* The columns of the panel that are not solved yet: from the state, or from 0. */
static PetscErrorCode Resume(Krylov *k, PetscInt *n, PetscInt at[])
{
  const GramSolveState *from = k->control->from;
  PetscInt              left = 0;

  PetscFunctionBegin;
  for (PetscInt c = 0; c < k->n; c++) {
    PetscCall(ColumnCopy(from->X, k->first + c, k->X, c));
    PetscCall(ColumnCopy(from->P, k->first + c, k->P, c));
    k->rz_all[k->first + c]  = from->rz[k->first + c];
    k->its_all[k->first + c] = from->iterations[k->first + c];
    k->column[c].left        = PetscMax(0, k->max_it - from->iterations[k->first + c]);
  }
  PetscCall(TrueResidual(k, k->X, *n, at));
  if (k->first == 0 && *n) { /* as far as it is known */
    for (PetscInt i = 0; i < from->n_history; i++) PetscCall(HistoryAdd(k->column + at[0], from->history[i]));
  }
  for (PetscInt c = 0; c < *n; c++) {
    Column *w = k->column + at[c];

    if (!(*Now(k, at[c]) < w->norm_b)) { /* worse than nothing */
      PetscCall(ZeroColumn(k->X, at[c]));
      PetscCall(ColumnCopy(k->B, at[c], k->R, at[c]));
      *Now(k, at[c])              = w->norm_b;
      *NormX(k, at[c])            = 0;
      k->rz_all[k->first + at[c]] = 0;
    }
    PetscCall(ColumnCopy(k->X, at[c], k->best, at[c]));
    w->norm_best = *Now(k, at[c]);
    if (!w->n_history) PetscCall(HistoryAdd(w, *Now(k, at[c]) / w->norm_b));
    if (*Now(k, at[c]) > w->goal) at[left++] = at[c];
  }
  *n = left;
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* ---- float */

/* ||K_float - K||_2: rounding moves entries by about 2 u k(x, z), and the norm of a matrix of independent errors is
   twice that of its rows. Measured on the largest of some rows. */
static PetscErrorCode FloatError(Mat A, PetscReal *norm)
{
  PetscReal squares[SAMPLED] = {0}, *entries;
  PetscInt  rows[SAMPLED], columns[CHUNK], n, start, end;
  PetscReal unit[1 + GRAM_MAX_DIM], ridge[1 + GRAM_MAX_DIM];
  PetscInt  b;

  PetscFunctionBegin;
  PetscCall(MatGetSize(A, &n, NULL));
  PetscCall(MatGetOwnershipRange(A, &start, &end));
  PetscCall(GramMatGetBlock(A, &b, unit, ridge));
  PetscCall(PetscMalloc1(SAMPLED * CHUNK, &entries));
  for (PetscInt i = 0; i < SAMPLED; i++) rows[i] = (PetscInt)((PetscReal)n * (i + 0.5) / SAMPLED);
  for (PetscInt j = start; j < end; j += CHUNK) {
    const PetscInt width = PetscMin(CHUNK, end - j);

    for (PetscInt c = 0; c < width; c++) columns[c] = j + c;
    PetscCall(GramMatGetEntries(A, SAMPLED, rows, width, columns, entries, SAMPLED));
    for (PetscInt c = 0; c < width; c++) {
      for (PetscInt i = 0; i < SAMPLED; i++)
        squares[i] +=
            PetscSqr(entries[GramAt(c, SAMPLED, i)] -
                     (rows[i] == columns[c] ? ridge[rows[i] % b] / PetscSqr(unit[rows[i] % b]) : 0));
    }
  }
  PetscCall(PetscFree(entries));
  PetscCallMPI(
      MPI_Allreduce(MPI_IN_PLACE, squares, SAMPLED, MPIU_REAL, MPI_SUM, PetscObjectComm((PetscObject)A)));
  *norm = 0;
  for (PetscInt i = 0; i < SAMPLED; i++)
    *norm = PetscMax(*norm, 2 * 2 * UNIT_FLOAT * PetscSqrtReal(squares[i]));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* of M: the power method on M^-1 finds it from above */
static PetscErrorCode LeastEigenvalue(Mat A, PC pc, PetscReal *least)
{
  PetscInt     start, end;
  PetscReal    norm;
  PetscScalar *v;
  Vec          x, y;

  PetscFunctionBegin;
  PetscCall(MatCreateVecs(A, &x, &y));
  PetscCall(VecGetOwnershipRange(x, &start, &end));
  PetscCall(VecGetArrayWrite(x, &v));
  for (PetscInt i = start; i < end; i++) v[i - start] = PetscCosReal((PetscReal)i * (PetscReal)i);
  PetscCall(VecRestoreArrayWrite(x, &v));
  PetscCall(VecNormalize(x, NULL));
  *least = 0;
  for (int step = 0; step < INVERSE_STEPS; step++) {
    PetscCall(PCApply(pc, x, y));
    PetscCall(VecNorm(y, NORM_2, &norm));
    PetscCall(VecCopy(y, x));
    PetscCall(VecScale(x, norm > 0 ? 1 / norm : 0));
    *least = norm > 0 ? 1 / norm : 0;
  }
  PetscCall(VecDestroy(&x));
  PetscCall(VecDestroy(&y));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/*
  Is float good for this system? Refinement gains about ||dK|| / lambda_min a step, dK the error of the entries; lambda_min
  is that of M, the approximation of A at hand, and alpha at least. Where that is too much, double from the start; where it is
  little, a step asks for more than REFINE_BY. Other preconditioners know only alpha: refinement will tell.
*/
static PetscErrorCode Admit(Krylov *k)
{
  GramPrecision precision;
  GramKernel    kernel;
  PetscReal     error = 0, least = 0;
  PetscBool     lrv, pipelined;
  PetscObject   inner;
  Mat           A;

  PetscFunctionBegin;
  k->inner = REFINE_BY;
  PetscCall(KSPGetOperators(k->ksp, &A, NULL));
  PetscCall(GramMatGetPrecision(A, &precision));
  PetscCall(PetscObjectTypeCompare((PetscObject)k->pc, "lrv", &lrv));
  PetscCall(PetscObjectTypeCompareAny((PetscObject)k->ksp, &pipelined, KSPPIPECG, KSPPIPECR, KSPPIPELCG,
                                      KSPPIPECGRR, KSPPIPECG2, KSPPIPEFCG, KSPGROPPCG, KSPPIPEGCR,
                                      KSPPIPEFGMRES, KSPPIPEBCGS, ""));
  PetscCall(PetscObjectQuery((PetscObject)A, GRAM_MAT_INNER, &inner));
  if (pipelined) k->refine = PETSC_FALSE; /* their recursions multiply errors of products */
  if (inner) k->refine = PETSC_FALSE;     /* differences of entries that grow */
  if (!k->refine || precision == GRAM_DOUBLE) PetscFunctionReturn(PETSC_SUCCESS);
  PetscCall(FloatError(A, &error));
  if (lrv) PetscCall(LeastEigenvalue(A, k->pc, &least));
  PetscCall(GramMatGetKernel(A, &kernel));
  least = PetscMax(least, kernel.gradients ? PetscMin(kernel.alpha, kernel.alpha_gradient) : kernel.alpha);
  PetscCall(
      PetscInfo(k->ksp, "float entries: error %g, least eigenvalue %g\n", (double)error, (double)least));
  if (lrv && ADMISSIBLE * error > least) k->refine = PETSC_FALSE;
  else k->inner = PetscMin(REFINE_BY, SAFE * error / least);
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* ---- from attempts to solutions */

static PetscErrorCode TakeTrueOperator(Krylov *k)
{
  Mat P;

  PetscFunctionBegin;
  k->refine             = PETSC_FALSE;
  k->report->exact_from = k->report->iterations;
  PetscCall(KSPGetOperators(k->ksp, NULL, &P));
  PetscCall(KSPSetOperators(k->ksp, k->residual->A, P));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* X = M^-1 B, where M is as good as A: then that is the solution, for one product. Columns that it does not solve
   begin at 0. */
static PetscErrorCode Start(Krylov *k, PetscInt *n, PetscInt at[])
{
  PetscReal   least = PETSC_MAX_REAL;
  PetscInt    left  = 0;
  PetscBool   lrv;
  GramLRVInfo info;
  Mat         B_at, X_at;

  PetscFunctionBegin;
  PetscCall(PetscObjectTypeCompare((PetscObject)k->pc, "lrv", &lrv));
  if (!lrv) PetscFunctionReturn(PETSC_SUCCESS);
  PetscCall(GramPCLRVGetInfo(k->pc, &info));
  for (PetscInt c = 0; c < *n; c++) least = PetscMin(least, k->column[at[c]].goal / k->column[at[c]].norm_b);
  if (!*n || !(info.error <= least) || k->column[at[0]].left < 1) PetscFunctionReturn(PETSC_SUCCESS);
  PetscCall(PartCreate(k, k->B, *n, at, &B_at));
  PetscCall(PanelCreate(k, *n, &X_at));
  PetscCall(PCMatApply(k->pc, B_at, X_at));
  PetscCall(PartReturn(&X_at, *n, at, k->X));
  PetscCall(MatDestroy(&B_at));
  PetscCall(TrueResidual(k, k->X, *n, at));
  k->report->iterations += *n;
  for (PetscInt c = 0; c < *n; c++) {
    Column *w = k->column + at[c];

    w->left--;
    PetscCall(HistoryAdd(w, 1));
    PetscCall(HistoryAdd(w, *Now(k, at[c]) / w->norm_b));
    if (*Now(k, at[c]) <= w->goal) continue;
    *Now(k, at[c])   = w->norm_b;
    *NormX(k, at[c]) = 0;
    PetscCall(ColumnCopy(k->best, at[c], k->X, at[c])); /* 0 */
    PetscCall(ColumnCopy(k->B, at[c], k->R, at[c]));
    at[left++] = at[c];
  }
  *n = left;
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* Iterative refinement: A d = r, x += d, r = b - A_true x, while that halves r. What an A of float entries or
   skipped tiles does to d only slows it down, unless A is too far off, or indefinite: columns that end so are left
   in at [n], with their best x so far. Source: N. J. Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed.,
   SIAM 2002, chapter 12. */
static PetscErrorCode Refine(Krylov *k, PetscInt *n, PetscInt at[])
{
  PetscInt work[GRAM_PANEL], n_work = *n;

  PetscFunctionBegin;
  PetscCall(PetscArraycpy(work, at, n_work));
  *n = 0;
  while (n_work) {
    PetscReal before[GRAM_PANEL], norm_x[GRAM_PANEL];
    PetscInt  stay = 0;
    Mat       R, D;

    for (PetscInt c = 0; c < n_work; c++) {
      Column *w = k->column + work[c];

      before[c] = *Now(k, work[c]);
      norm_x[c] = *NormX(k, work[c]);
      w->factor = PetscMax(w->inner, w->goal / before[c] / 2);
    }
    PetscCall(PartCreate(k, k->R, n_work, work, &R));
    PetscCall(PanelCreate(k, n_work, &D));
    PetscCall(Attempt(k, n_work, work, R, D, PETSC_FALSE));
    for (PetscInt c = 0; c < n_work; c++) {
      Vec x;

      PetscCall(ColumnCopy(k->X, work[c], k->best, work[c]));
      PetscCall(MatDenseGetColumnVec(k->X, work[c], &x));
      PetscCall(AddColumn(D, c, x));
      PetscCall(MatDenseRestoreColumnVec(k->X, work[c], &x));
    }
    PetscCall(MatDestroy(&R));
    PetscCall(MatDestroy(&D));
    PetscCall(TrueResidual(k, k->X, n_work, work));
    for (PetscInt c = 0; c < n_work; c++) {
      Column         *w    = k->column + work[c];
      PetscReal      *now  = Now(k, work[c]);
      const PetscBool pays = (PetscBool)(w->reason > 0 && *now <= before[c] / 2);

      if (!(*now <= before[c])) { /* NaN included */
        PetscCall(ColumnCopy(k->best, work[c], k->X, work[c]));
        *now               = before[c];
        *NormX(k, work[c]) = norm_x[c];
      } else if (*now > 2 * w->inner * before[c]) w->inner = PetscMin(REFINE_BY, SAFE * *now / before[c]);
      PetscCall(ColumnCopy(k->X, work[c], k->best, work[c]));
      w->norm_best = *now;
      w->factor    = 0;
      PetscCall(PetscInfo(k->ksp, "refined: residual %g to %g of %g, next by %g\n", (double)before[c],
                          (double)*now, (double)w->norm_b, (double)w->inner));
      if (*now <= PetscMax(w->goal, GramResidualFloor(k->residual, k->first + work[c]))) continue;
      if (!w->left) {
        w->reason    = KSP_DIVERGED_ITS;
        w->stagnated = PETSC_FALSE;
      } else if (pays || k->request) work[stay++] = work[c];
      else at[(*n)++] = work[c];
    }
    n_work = stay;
    if (k->request) PetscCall(Save(k));
    if (k->report->stopped) break;
  }
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* What a failing attempt leaves in x is exchanged for the best iterate on the way. */
static PetscErrorCode TakeBest(Krylov *k, PetscInt n, const PetscInt at[])
{
  PetscReal norm[GRAM_PANEL], norm_x[GRAM_PANEL];
  PetscInt  worse[GRAM_PANEL], n_worse = 0;

  PetscFunctionBegin;
  for (PetscInt c = 0; c < n; c++) {
    if (*Now(k, at[c]) <= PetscMax(k->column[at[c]].goal, k->column[at[c]].norm_best))
      continue; /* not so NaN */
    norm[n_worse]    = *Now(k, at[c]);
    norm_x[n_worse]  = *NormX(k, at[c]);
    worse[n_worse++] = at[c];
  }
  PetscCall(TrueResidual(k, k->best, n_worse, worse));
  for (PetscInt c = 0; c < n_worse; c++) {
    if (!(norm[c] <= *Now(k, worse[c]))) PetscCall(ColumnCopy(k->best, worse[c], k->X, worse[c]));
    else {
      *Now(k, worse[c])   = norm[c];
      *NormX(k, worse[c]) = norm_x[c];
    }
  }
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* Where A is numerically singular CG ends at the first p'Ap <= 0. M of lrv is definite all the same, and x += M^-1 r goes
   on while that halves r. */
static PetscErrorCode Mend(Krylov *k, PetscInt n, const PetscInt at[])
{
  PetscBool lrv;

  PetscFunctionBegin;
  PetscCall(PetscObjectTypeCompare((PetscObject)k->pc, "lrv", &lrv));
  for (PetscInt c = 0; c < n && lrv; c++) {
    Column   *w = k->column + at[c];
    PetscBool better;

    if (w->reason != KSP_DIVERGED_INDEFINITE_MAT || w->left <= 0 || !(*Now(k, at[c]) > w->goal)) continue;
    PetscCall(TrueResidual(k, k->X, 1, at + c));
    k->report->iterations++;
    do {
      const PetscReal before = *Now(k, at[c]), norm_x = *NormX(k, at[c]);
      Vec             x;
      Mat             R, D;

      PetscCall(PartCreate(k, k->R, 1, at + c, &R));
      PetscCall(PanelCreate(k, 1, &D));
      PetscCall(PCMatApply(k->pc, R, D));
      PetscCall(ColumnCopy(k->X, at[c], k->best, at[c]));
      PetscCall(MatDenseGetColumnVec(k->X, at[c], &x));
      PetscCall(AddColumn(D, 0, x));
      PetscCall(MatDenseRestoreColumnVec(k->X, at[c], &x));
      PetscCall(MatDestroy(&R));
      PetscCall(MatDestroy(&D));
      PetscCall(TrueResidual(k, k->X, 1, at + c));
      k->report->iterations++;
      w->left--;
      if (*Now(k, at[c]) <= before) PetscCall(HistoryAdd(w, *Now(k, at[c]) / w->norm_b));
      else {
        PetscCall(ColumnCopy(k->best, at[c], k->X, at[c]));
        *Now(k, at[c])   = before;
        *NormX(k, at[c]) = norm_x;
      }
      better = (PetscBool)(*Now(k, at[c]) <= before / 2);
    } while (better && w->left > 0 && *Now(k, at[c]) > w->goal);
  }
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* The columns at [n]: attempts, while the true residual is above the goal and still falls. */
static PetscErrorCode Iterate(Krylov *k, PetscInt n, const PetscInt at[], PetscInt attempts, PetscBool from_x)
{
  PetscReal         before[GRAM_PANEL], rz[GRAM_PANEL];
  PetscInt          work[GRAM_PANEL], n_work = n;
  GramPCGDirections directions = {.rz = rz};

  PetscFunctionBegin;
  for (PetscInt c = 0; c < n; c++) {
    work[c]                 = at[c];
    before[c]               = PETSC_MAX_REAL;
    k->column[at[c]].target = k->column[at[c]].goal;
  }
  for (PetscInt attempt = 0; attempt < attempts && n_work; attempt++) {
    const PetscInt growths = k->growths;
    PetscInt       stay    = 0;
    Mat            B, X;

    PetscCall(PartCreate(k, k->B, n_work, work, &B));
    PetscCall(PartCreate(k, k->X, n_work, work, &X));
    if (k->P) {
      PetscCall(PartCreate(k, k->P, n_work, work, &directions.P));
      if (!directions.R) PetscCall(PanelCreate(k, n_work, &directions.R));
      for (PetscInt c = 0; c < n_work; c++) rz[c] = k->rz_all[k->first + work[c]];
      k->directions = &directions;
    }
    PetscCall(Attempt(k, n_work, work, B, X, (PetscBool)(from_x || attempt > 0)));
    PetscCall(PartReturn(&X, n_work, work, k->X));
    PetscCall(MatDestroy(&B));
    if (k->P) PetscCall(PartReturn(&directions.P, n_work, work, k->P));
    for (PetscInt c = 0; k->P && c < n_work; c++)
      k->rz_all[k->first + work[c]] = k->request && k->batched && k->growths == growths ? rz[c] : 0;
    if (k->request) {
      PetscCall(Save(k));
      if (k->report->stopped) break;
      attempt--; /* the same one, of the same columns */
      from_x           = PETSC_TRUE;
      directions.has_R = (PetscBool)(directions.has_R && k->batched && k->growths == growths);
      continue;
    }
    directions.has_R = PETSC_FALSE;
    PetscCall(MatDestroy(&directions.R));
    PetscCall(TrueResidual(k, k->X, n_work, work));
    for (PetscInt c = 0; c < n_work; c++) {
      Column         *w   = k->column + work[c];
      const PetscReal now = *Now(k, work[c]);

      if (w->reason < 0 || !(now <= 0.9 * before[c])) continue;
      if (now <= PetscMax(w->goal, GramResidualFloor(k->residual, k->first + work[c]))) continue;
      w->target = 0.5 * w->goal / now * w->best; /* the KSP may watch another norm: ask it for as much less */
      before[stay] = now;
      work[stay++] = work[c];
    }
    n_work = stay;
  }
  PetscCall(MatDestroy(&directions.R));
  if (!k->report->stopped) PetscCall(TakeBest(k, n, at));
  if (!k->report->stopped) PetscCall(Mend(k, n, at));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* Refinement that does not get there hands over to the true operator, for its columns and those that follow. */
static PetscErrorCode SolvePanel(Krylov *k)
{
  PetscInt  at[GRAM_PANEL], n = 0;
  PetscBool from_x;
  Mat       A;

  PetscFunctionBegin;
  PetscCall(MatZeroEntries(k->X));
  PetscCall(MatZeroEntries(k->best));
  PetscCall(MatCopy(k->B, k->R, SAME_NONZERO_PATTERN));
  for (PetscInt c = 0; c < k->n; c++) {
    Column *w = k->column + c;

    w->norm_b = w->norm_best = k->residual->b[k->first + c];
    w->left                  = k->max_it;
    w->inner                 = k->inner;
    w->reason                = w->norm_b == 0 ? KSP_CONVERGED_RTOL : KSP_DIVERGED_ITS;
    if (w->norm_b == 0) PetscCall(HistoryAdd(w, 0));
    else at[n++] = c;
  }
  if (k->control && k->control->from) PetscCall(Resume(k, &n, at));
  else PetscCall(Start(k, &n, at));
  from_x = (PetscBool)(k->refine || (k->control && k->control->from));
  if (k->refine) PetscCall(Refine(k, &n, at));
  if (k->report->stopped) PetscFunctionReturn(PETSC_SUCCESS);
  if (k->refine && n) PetscCall(TakeTrueOperator(k));
  PetscCall(KSPGetOperators(k->ksp, &A, NULL));
  if (n) PetscCall(Iterate(k, n, at, A == k->residual->A ? RESTARTS + 1 : 1, from_x));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* the history of the column with the most, why the first that failed did */
static PetscErrorCode PanelReport(Krylov *k)
{
  GramReport *report = k->report;

  PetscFunctionBegin;
  for (PetscInt c = 0; c < k->n; c++) {
    Column         *w   = k->column + c;
    const PetscReal now = *Now(k, c);

    if (!report->reason[0] && !(now <= PetscMax(w->goal, GramResidualFloor(k->residual, k->first + c))))
      PetscCall(PetscStrncpy(report->reason, ReasonName(w->reason, w->stagnated), sizeof report->reason));
    if (!report->history || w->n_history > report->n_history) {
      PetscCall(PetscFree(report->history));
      report->history   = w->history;
      report->n_history = w->n_history;
      w->history        = NULL;
    }
    PetscCall(PetscFree(w->history));
  }
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* what the preconditioner was in the end, and the seconds it took to set up, each time */
static PetscErrorCode PreconditionerReport(PC pc, GramReport *report)
{
  PetscBool   lrv;
  GramLRVInfo info;
  PCType      type;

  PetscFunctionBegin;
  PetscCall(PCGetType(pc, &type));
  PetscCall(PetscStrncpy(report->pc, type, sizeof report->pc));
  PetscCall(PCViewFromOptions(pc, NULL, "-pc_view"));
  PetscCall(PetscStrcmp(type, "lrv", &lrv));
  if (!lrv) PetscFunctionReturn(PETSC_SUCCESS);
  PetscCall(GramPCLRVGetInfo(pc, &info));
  report->pc_rank        = info.rank;
  report->pc_neighbors   = info.neighbors;
  report->pc_alpha       = info.alpha;
  report->numerical_rank = info.numerical_rank;
  report->setup_seconds += info.seconds;
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* panel = the columns first ... of a MATDENSE, as views; MatDestroy() them before it */
static PetscErrorCode ViewCreate(const Krylov *k, Mat all, PetscScalar *a, Mat *view)
{
  PetscInt rows, lda;

  PetscFunctionBegin;
  PetscCall(MatGetLocalSize(all, &rows, NULL));
  PetscCall(MatDenseGetLDA(all, &lda));
  PetscCall(MatCreateDense(PetscObjectComm((PetscObject)all), rows, PETSC_DECIDE, PETSC_DETERMINE, k->n,
                           a + GramAt(k->first, lda, 0), view));
  PetscCall(GramMatMatchPanel(k->residual->A, *view));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* P and what belongs to it, of all columns */
static PetscErrorCode ControlBegin(Krylov *k, Mat X)
{
  const GramSolveState *from = k->control ? k->control->from : NULL;
  PetscBool             lrv;

  PetscFunctionBegin;
  if (!k->control) PetscFunctionReturn(PETSC_SUCCESS);
  k->X_all = X;
  PetscCall(MatDuplicate(X, MAT_DO_NOT_COPY_VALUES, &k->P_all));
  PetscCall(MatZeroEntries(k->P_all));
  PetscCall(PetscCalloc2(k->q, &k->rz_all, k->q, &k->its_all));
  if (!from) PetscFunctionReturn(PETSC_SUCCESS);
  k->report->iterations = from->total;
  PetscCall(MatCopy(from->X, X, SAME_NONZERO_PATTERN)); /* of panels that are not reached */
  PetscCall(PetscArraycpy(k->its_all, from->iterations, k->q));
  PetscCall(PetscObjectTypeCompare((PetscObject)k->pc, "lrv", &lrv));
  if (lrv && from->growth.rank) PetscCall(GramPCLRVSetGrowth(k->pc, &from->growth));
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramKrylovSolve(KSP ksp, PetscBool refine, Mat B, const PetscReal goal[],
                               const GramSolveControl *control, Mat X, GramResidual *residual,
                               GramReport *report)
{
  Krylov       k = {.ksp      = ksp,
                    .residual = residual,
                    .report   = report,
                    .refine   = refine,
                    .q        = residual->q,
                    .control  = control};
  KSPNormType  norm;
  GramSchedule schedule;
  PetscBool    some = PETSC_FALSE; /* column is not zero */
  PetscScalar *b, *x, *p = NULL;

  PetscFunctionBegin;
  PetscCall(KSPGetPC(ksp, &k.pc));
  PetscCall(KSPGetTolerances(ksp, NULL, NULL, NULL, &k.max_it));
  PetscCall(KSPGetNormType(ksp, &norm));
  PetscCall(PetscObjectTypeCompare((PetscObject)ksp, KSPCG, &k.ritz));
  PetscCall(GramScheduleFromOptions(PetscObjectComm((PetscObject)ksp), &schedule));
  k.batched = (PetscBool)(k.ritz && norm == KSP_NORM_UNPRECONDITIONED && !schedule.reproducible &&
                          !ksp->numbermonitors);
  k.ritz    = (PetscBool)(k.ritz && k.max_it <= RITZ_MOST);
  PetscCall(KSPMonitorSet(ksp, MonitorKSP, &k, NULL));
  PetscCall(KSPSetConvergenceTest(ksp, ConvergedKSP, &k, NULL));
  for (PetscInt c = 0; c < k.q; c++) some = (PetscBool)(some || residual->b[c] > 0);
  PetscCall(GramProgressBegin("solve", 0));
  PetscCall(ControlBegin(&k, X));
  if (some && k.max_it > 0) {
    PetscCall(KSPSetUp(ksp));
    PetscCall(Settled(&k));
    PetscCall(Admit(&k));
    if (refine && !k.refine) PetscCall(TakeTrueOperator(&k));
  }
  PetscCall(MatDenseGetArray(B, &b));
  PetscCall(MatDenseGetArray(X, &x));
  if (control) PetscCall(MatDenseGetArray(k.P_all, &p));
  for (k.first = 0; k.first < k.q && !report->stopped; k.first += k.n) {
    k.n = PetscMin(PANEL, k.q - k.first);
    PetscCall(PetscCalloc1(k.n, &k.column));
    for (PetscInt c = 0; c < k.n; c++) k.column[c].goal = goal[k.first + c];
    PetscCall(ViewCreate(&k, B, b, &k.B));
    PetscCall(ViewCreate(&k, X, x, &k.X));
    if (control) PetscCall(ViewCreate(&k, k.P_all, p, &k.P));
    PetscCall(PanelCreate(&k, k.n, &k.R));
    PetscCall(PanelCreate(&k, k.n, &k.best));
    PetscCall(SolvePanel(&k));
    PetscCall(PanelReport(&k));
    PetscCall(MatDestroy(&k.B));
    PetscCall(MatDestroy(&k.X));
    PetscCall(MatDestroy(&k.P));
    PetscCall(MatDestroy(&k.R));
    PetscCall(MatDestroy(&k.best));
    PetscCall(PetscFree(k.column));
  }
  if (control) PetscCall(MatDenseRestoreArray(k.P_all, &p));
  PetscCall(MatDenseRestoreArray(X, &x));
  PetscCall(MatDenseRestoreArray(B, &b));
  PetscCall(MatDestroy(&k.P_all));
  PetscCall(PetscFree2(k.rz_all, k.its_all));
  PetscCall(KSPMonitorCancel(ksp));
  PetscCall(GramProgressEnd());
  PetscCall(PreconditionerReport(k.pc, report));
  PetscFunctionReturn(PETSC_SUCCESS);
}
