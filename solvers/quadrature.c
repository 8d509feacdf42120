#include <string.h>

#include <petsctao.h>

#include "quadrature.h"
#include "share.h"

static const char *const methods[] = {"optimal", "equal", "nonnegative"};

const char *GramWeightsMethodName(int method)
{
  return method < (int)PETSC_STATIC_ARRAY_LENGTH(methods) ? methods[method] : NULL;
}

/* The nodes, and what is known of them. */
typedef struct {
  MPI_Comm          comm;
  GramPoints        X;
  const GramKernel *kernel;
  GramMean          mean;
  PetscInt          n, n_local, start, dim;
  PetscMPIInt       rank;
  PetscReal        *z; /* [n_local] */
  GramBackend       backend, exact;
  Mat               A, A_true; /* K + alpha I, where it is needed: Operator() */
} Nodes;

static PetscErrorCode NodesCreate(GramPoints X, const GramKernel *kernel, GramBackend backend, GramMean mean,
                                  Nodes *s)
{
  PetscFunctionBegin;
  *s = (Nodes){.X = X, .kernel = kernel, .backend = backend, .mean = mean};
  PetscCall(GramPointsGetSizes(X, &s->comm, &s->dim, &s->n, &s->n_local, &s->start));
  PetscCallMPI(MPI_Comm_rank(s->comm, &s->rank));
  PetscCall(PetscMalloc1(s->n_local, &s->z));
  PetscCall(GramMeanEvaluate(mean, X, s->z, NULL));
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode Operator(Nodes *s)
{
  PetscFunctionBegin;
  if (s->A) PetscFunctionReturn(PETSC_SUCCESS);
  PetscCall(GramMatCreate(s->X, s->kernel, s->backend, &s->A));
  PetscCall(GramTrueOperatorCreate(s->X, s->kernel, s->backend, s->A, &s->exact, &s->A_true));
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode NodesDestroy(Nodes *s)
{
  PetscFunctionBegin;
  PetscCall(MatDestroy(&s->A_true));
  PetscCall(MatDestroy(&s->A));
  PetscCall(GramBackendDestroy(&s->exact));
  PetscCall(PetscFree(s->z));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* ---- few nodes: by the first rank */

/* optimal weights and the ridge they took, or with alpha NULL what given ones are worth */
static PetscErrorCode Extended(Nodes *s, PetscBool sum_to_one, PetscBool automatic, PetscReal w[],
                               PetscReal *alpha, GramExtended *result)
{
  const PetscReal unit   = s->kernel->amplitude * s->kernel->amplitude;
  GramKernel      kernel = *s->kernel;
  PetscReal      *x, *z, *all;
  PetscBool       sampled;

  PetscFunctionBegin;
  PetscCall(GramPointsAllGather(s->X, NULL, &x));
  PetscCall(PetscMalloc2(s->n, &z, s->n, &all));
  PetscCall(GramAllGather(s->comm, s->n_local, 1, s->z, z));
  PetscCall(GramAllGather(s->comm, s->n_local, 1, w, all));
  PetscCall(GramMeanIsSampled(s->mean, &sampled));
  if (!s->rank && alpha) {
    PetscCall(GramExtendedWeights(&kernel, s->mean, s->n, x, sampled ? z : NULL, sum_to_one, all, result));
    for (int power = -30; power <= -6 && automatic && result->singular >= 0 && result->twin < 0; power += 2) {
      kernel.alpha = PetscPowRealInt(10, power) * unit;
      PetscCall(GramExtendedWeights(&kernel, s->mean, s->n, x, sampled ? z : NULL, sum_to_one, all, result));
    }
  }
  if (!s->rank && !alpha)
    PetscCall(GramExtendedError(s->kernel, s->mean, s->n, x, sampled ? z : NULL, all, result));
  PetscCallMPI(MPI_Bcast(result, sizeof *result, MPI_BYTE, 0, s->comm));
  PetscCallMPI(MPI_Bcast(&kernel.alpha, 1, MPIU_REAL, 0, s->comm));
  if (alpha) *alpha = kernel.alpha;
  PetscCallMPI(MPI_Bcast(all, (PetscMPIInt)s->n, MPIU_REAL, 0, s->comm));
  PetscCall(PetscArraycpy(w, all + s->start, s->n_local));
  PetscCall(PetscFree2(z, all));
  PetscCall(PetscFree(x));
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode Take(const GramExtended *e, GramRule *rule)
{
  PetscFunctionBegin;
  rule->extended          = PETSC_TRUE;
  rule->wce_squared       = e->wce_squared;
  rule->wce_squared_equal = e->wce_squared_equal;
  rule->wce_squared_error = e->wce_squared_error;
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* ---- many nodes */

/* a sum over the ranks, each part in more digits than double */
static PetscErrorCode Sum(MPI_Comm comm, PetscInt n, long double sums[])
{
  PetscFunctionBegin;
  PetscCallMPI(MPI_Allreduce(MPI_IN_PLACE, sums, (PetscMPIInt)n, MPI_LONG_DOUBLE, MPI_SUM, comm));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* of given weights: one product with w, |w| and the equal ones */
static PetscErrorCode Errors(Nodes *s, const PetscReal w[], GramRule *rule)
{
  enum { WZ, EZ, AWZ, WKW, EKE, AWKAW, COUNT };
  const PetscReal  equal = 1 / (PetscReal)s->n, alpha = s->kernel->alpha;
  const PetscReal *p;
  PetscReal       *v, *e, twice, twice_error;
  long double      sums[COUNT + 1] = {0};
  PetscInt         ldv, ldp;
  Mat              V, P;

  PetscFunctionBegin;
  PetscCall(Operator(s));
  PetscCall(MatCreateDense(s->comm, s->n_local, PETSC_DECIDE, s->n, 3, NULL, &V));
  PetscCall(MatDenseGetLDA(V, &ldv));
  PetscCall(MatDenseGetArrayWrite(V, &v));
  for (PetscInt i = 0; i < s->n_local; i++) {
    v[i]           = w[i];
    v[ldv + i]     = equal;
    v[2 * ldv + i] = PetscAbsReal(w[i]);
  }
  PetscCall(MatDenseRestoreArrayWrite(V, &v));
  PetscCall(MatMatMult(s->A_true, V, MAT_INITIAL_MATRIX, PETSC_DEFAULT, &P));
  PetscCall(PetscMalloc1(s->n_local, &e));
  { /* x as the mean's errors want it */
    const PetscReal *x;

    PetscCall(GramPointsGetArrayRead(s->X, &x));
    PetscCall(GramMeanGetErrors(s->mean, PETSC_FALSE, s->n_local, x, s->z, e, &twice_error));
  }
  PetscCall(MatDenseGetArrayRead(P, &p));
  PetscCall(MatDenseGetLDA(P, &ldp));
  for (PetscInt i = 0; i < s->n_local; i++) {
    const long double wi = w[i], z = s->z[i];

    sums[WZ] += wi * z;
    sums[EZ] += equal * z;
    sums[AWZ] += fabsl(wi) * z;
    sums[WKW] += wi * (p[i] - alpha * wi);
    sums[EKE] += equal * (p[ldp + i] - alpha * (long double)equal);
    sums[AWKAW] += fabsl(wi) * p[2 * ldp + i];
    sums[COUNT] += 2 * (fabsl(wi) + equal) * e[i];
  }
  PetscCall(MatDenseRestoreArrayRead(P, &p));
  PetscCall(Sum(s->comm, COUNT + 1, sums));
  PetscCall(GramMeanGetDouble(s->mean, &twice));
  rule->wce_squared       = (PetscReal)(twice - 2 * sums[WZ] + sums[WKW]);
  rule->wce_squared_equal = (PetscReal)(twice - 2 * sums[EZ] + sums[EKE]);
  rule->wce_squared_error =
      (PetscReal)((512 + (long double)s->n / 128) * 0x1p-53L * (twice + 2 * sums[AWZ] + sums[AWKAW]) +
                  sums[COUNT] + twice_error);
  PetscCall(PetscFree(e));
  PetscCall(MatDestroy(&P));
  PetscCall(MatDestroy(&V));
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode Solve(Nodes *s, PetscBool sum_to_one, const GramSolveControl *control, PetscReal w[],
                            GramRule *rule)
{
  const PetscInt   q = sum_to_one ? 2 : 1;
  const PetscReal *c;
  PetscReal       *y;
  long double      sums[2] = {0};
  PetscInt         ld;
  GramReport       report;
  Mat              Y, C;

  PetscFunctionBegin;
  PetscCall(Operator(s));
  PetscCall(MatCreateDense(s->comm, s->n_local, PETSC_DECIDE, s->n, q, NULL, &Y));
  PetscCall(GramMatMatchPanel(s->A, Y));
  PetscCall(MatDenseGetLDA(Y, &ld));
  PetscCall(MatDenseGetArrayWrite(Y, &y));
  for (PetscInt i = 0; i < s->n_local; i++) {
    y[i] = s->z[i];
    if (sum_to_one) y[ld + i] = 1;
  }
  PetscCall(MatDenseRestoreArrayWrite(Y, &y));
  PetscCall(GramSolve(s->A, s->A_true, Y, control, &C, &report));
  PetscCall(MatDenseGetLDA(C, &ld));
  PetscCall(MatDenseGetArrayRead(C, &c));
  for (PetscInt i = 0; i < s->n_local; i++) {
    sums[0] += c[i];
    if (sum_to_one) sums[1] += c[ld + i];
  }
  PetscCall(Sum(s->comm, 2, sums));
  for (PetscInt i = 0; i < s->n_local; i++)
    w[i] = sum_to_one ? c[i] + (PetscReal)((1 - sums[0]) / sums[1]) * c[ld + i] : c[i];
  PetscCall(MatDenseRestoreArrayRead(C, &c));
  rule->converged         = report.converged;
  rule->stopped           = report.stopped;
  rule->iterations        = report.iterations;
  rule->relative_residual = report.relative_residual;
  PetscCall(PetscStrncpy(rule->reason, report.reason, sizeof rule->reason));
  PetscCall(GramReportClear(&report));
  PetscCall(MatDestroy(&C));
  PetscCall(MatDestroy(&Y));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* ---- nonnegative weights: min w'Aw / 2 - z'w over w >= 0 */

typedef struct {
  Mat A;
  Vec z;
} Quadratic;

/* and the gradient Aw - z */
static PetscErrorCode Objective(Tao tao, Vec w, PetscReal *f, Vec g, void *ctx)
{
  const Quadratic *q = (const Quadratic *)ctx;
  PetscReal        wAw, wz;

  PetscFunctionBegin;
  (void)tao;
  PetscCall(MatMult(q->A, w, g));
  PetscCall(VecDot(w, g, &wAw));
  PetscCall(VecDot(w, q->z, &wz));
  PetscCall(VecAXPY(g, -1, q->z));
  *f = wAw / 2 - wz;
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode Constant(Tao tao, Vec w, Mat H, Mat P, void *ctx)
{
  PetscFunctionBegin;
  (void)tao, (void)w, (void)H, (void)P, (void)ctx;
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* From w, in place. Where A is stored, Newton's method on the free weights by Cholesky factors; else by products. */
static PetscErrorCode Minimize(Quadratic *q, PetscBool stored, PetscInt n_local, PetscReal w[],
                               PetscInt *steps, PetscBool *converged)
{
  MPI_Comm           comm = PetscObjectComm((PetscObject)q->A);
  PetscReal         *a, scale;
  Vec                v, lower, upper;
  Tao                tao;
  KSP                ksp;
  PC                 pc;
  TaoConvergedReason reason;

  PetscFunctionBegin;
  PetscCall(VecDuplicate(q->z, &v));
  PetscCall(VecDuplicate(q->z, &lower));
  PetscCall(VecDuplicate(q->z, &upper));
  PetscCall(VecSet(lower, 0));
  PetscCall(VecSet(upper, PETSC_INFINITY));
  PetscCall(VecGetArrayWrite(v, &a));
  for (PetscInt i = 0; i < n_local; i++) a[i] = PetscMax(w[i], 0);
  PetscCall(VecRestoreArrayWrite(v, &a));
  PetscCall(VecNorm(q->z, NORM_2, &scale));
  PetscCall(TaoCreate(comm, &tao));
  PetscCall(TaoSetType(tao, stored ? TAOBNTR : TAOBLMVM));
  PetscCall(TaoSetSolution(tao, v));
  PetscCall(TaoSetObjectiveAndGradient(tao, NULL, Objective, q));
  if (stored) PetscCall(TaoSetHessian(tao, q->A, q->A, Constant, q));
  PetscCall(TaoSetVariableBounds(tao, lower, upper));
  PetscCall(TaoSetTolerances(tao, GRAM_NONNEGATIVE_RTOL * scale, 0, 0));
  PetscCall(TaoSetMaximumIterations(tao, stored ? 100 : 5000));
  PetscCall(TaoSetMaximumFunctionEvaluations(tao, 20000));
  if (stored) {
    PetscCall(TaoGetKSP(tao, &ksp));
    PetscCall(KSPGetPC(ksp, &pc));
    PetscCall(PCSetType(pc, PCCHOLESKY));
  }
  PetscCall(TaoSetFromOptions(tao)); /* -tao_* */
  PetscCall(TaoSolve(tao));
  PetscCall(TaoGetConvergedReason(tao, &reason));
  PetscCall(TaoGetIterationNumber(tao, steps));
  PetscCall(VecGetArray(v, &a));
  for (PetscInt i = 0; i < n_local; i++) w[i] = PetscMax(a[i], 0);
  PetscCall(VecRestoreArray(v, &a));
  *converged = (PetscBool)(reason > 0);
  PetscCall(TaoDestroy(&tao));
  PetscCall(VecDestroy(&upper));
  PetscCall(VecDestroy(&lower));
  PetscCall(VecDestroy(&v));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* A, stored on this rank */
static PetscErrorCode Store(const Nodes *s, Mat *A)
{
  PetscReal *a;
  PetscInt  *rows;

  PetscFunctionBegin;
  PetscCall(PetscMalloc1(s->n, &rows));
  for (PetscInt i = 0; i < s->n; i++) rows[i] = i;
  PetscCall(MatCreateSeqDense(PETSC_COMM_SELF, s->n, s->n, NULL, A));
  PetscCall(MatDenseGetArrayWrite(*A, &a));
  PetscCall(GramMatGetEntries(s->A_true, s->n, rows, s->n, rows, a, s->n));
  PetscCall(MatDenseRestoreArrayWrite(*A, &a));
  PetscCall(MatSetOption(*A, MAT_SPD, PETSC_TRUE));
  PetscCall(PetscFree(rows));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* How many weights are wrong: free ones that are negative, others that a step into the box would help. They change sides, all of
   them or the last one alone. */
static PetscInt Exchange(PetscInt n, const PetscReal w[], const PetscReal g[], PetscReal tolerance,
                         PetscBool all, PetscBool free[])
{
  PetscInt wrong = 0, last = -1;

  for (PetscInt i = 0; i < n; i++) {
    if (!(free[i] ? w[i] < 0 : g[i] < -tolerance)) continue;
    wrong++;
    last = i;
    if (all) free[i] = (PetscBool)!free[i];
  }
  if (!all && last >= 0) free[last] = (PetscBool)!free[last];
  return wrong;
}

/* A_FF w_F = z_F by a Cholesky factor, the others 0, and g = A w - z */
static PetscErrorCode SolveFree(const Quadratic *q, PetscInt n, const PetscBool free[], PetscReal w[],
                                PetscReal g[])
{
  PetscInt  *rows, m = 0;
  IS         is;
  Mat        F;
  Vec        b, x, all, product;
  PetscReal *a;

  PetscFunctionBegin;
  PetscCall(PetscMalloc1(n, &rows));
  for (PetscInt i = 0; i < n; i++) {
    if (free[i]) rows[m++] = i;
  }
  PetscCall(ISCreateGeneral(PETSC_COMM_SELF, m, rows, PETSC_USE_POINTER, &is));
  PetscCall(MatCreateSubMatrix(q->A, is, is, MAT_INITIAL_MATRIX, &F));
  PetscCall(MatSetOption(F, MAT_SPD, PETSC_TRUE));
  PetscCall(VecGetSubVector(q->z, is, &b));
  PetscCall(VecDuplicate(b, &x));
  PetscCall(MatCholeskyFactor(F, NULL, NULL));
  PetscCall(MatSolve(F, b, x));
  PetscCall(VecRestoreSubVector(q->z, is, &b));
  PetscCall(PetscArrayzero(w, n));
  PetscCall(VecGetArray(x, &a));
  for (PetscInt k = 0; k < m; k++) w[rows[k]] = a[k];
  PetscCall(VecRestoreArray(x, &a));
  PetscCall(VecCreateSeqWithArray(PETSC_COMM_SELF, 1, n, w, &all));
  PetscCall(VecCreateSeqWithArray(PETSC_COMM_SELF, 1, n, g, &product));
  PetscCall(MatMult(q->A, all, product));
  PetscCall(VecAXPY(product, -1, q->z));
  PetscCall(VecDestroy(&product));
  PetscCall(VecDestroy(&all));
  PetscCall(VecDestroy(&x));
  PetscCall(MatDestroy(&F));
  PetscCall(ISDestroy(&is));
  PetscCall(PetscFree(rows));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* Where rounding of the objective ends TAO's steps, the free weights are known but for some: block principal pivoting, J. Judice,
   F. Pires, Comput. Oper. Res. 21 (1994) 587-596: all that are wrong at once, one by one while that makes no fewer of them. */
static PetscErrorCode Settle(const Quadratic *q, PetscInt n, PetscReal w[], PetscInt *steps,
                             PetscBool *converged)
{
  PetscReal *g, *x, scale;
  PetscBool *free;
  PetscInt   fewest = n + 1, patience = 3;

  PetscFunctionBegin;
  PetscCall(VecNorm(q->z, NORM_2, &scale));
  PetscCall(PetscMalloc3(n, &g, n, &free, n, &x));
  for (PetscInt i = 0; i < n; i++) free[i] = (PetscBool)(w[i] > 0);
  for (PetscInt k = 0; k < 300 && !*converged; k++) {
    PetscInt wrong;

    PetscCall(SolveFree(q, n, free, x, g));
    wrong = Exchange(n, x, g, GRAM_NONNEGATIVE_RTOL * scale, (PetscBool)(patience > 0), free);
    if (wrong < fewest) {
      fewest   = wrong;
      patience = 3;
    } else patience--;
    *converged = (PetscBool)!wrong;
    ++*steps;
  }
  if (*converged) PetscCall(PetscArraycpy(w, x, n));
  PetscCall(PetscFree3(g, free, x));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* On this rank: from equal weights under a large ridge to those under a small one, each the beginning of the next. The last
   is what Cholesky factors in double want at least. */
static PetscErrorCode ConstrainStored(const Nodes *s, PetscReal *z, PetscReal w[], PetscInt *steps,
                                      PetscBool *converged)
{
  const PetscReal unit = s->kernel->amplitude * s->kernel->amplitude,
                  last = PetscMax(s->kernel->alpha, GRAM_NONNEGATIVE_ALPHA * unit);
  PetscReal alpha = s->kernel->alpha, next = PetscMax(last, 1e-2 * unit);
  PetscInt  more;
  Quadratic q;

  PetscFunctionBegin;
  PetscCall(Store(s, &q.A));
  PetscCall(VecCreateSeqWithArray(PETSC_COMM_SELF, 1, s->n, z, &q.z));
  for (PetscInt i = 0; i < s->n; i++) w[i] = 1 / (PetscReal)s->n;
  while (PETSC_TRUE) {
    PetscCall(MatShift(q.A, next - alpha));
    alpha = next;
    PetscCall(Minimize(&q, PETSC_TRUE, s->n, w, &more, converged));
    *steps += more;
    if (alpha == last) break;
    next = PetscMax(next / 10, last);
  }
  if (!*converged) PetscCall(Settle(&q, s->n, w, steps, converged));
  PetscCall(VecDestroy(&q.z));
  PetscCall(MatDestroy(&q.A));
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode Constrain(Nodes *s, PetscReal w[], GramRule *rule)
{
  const PetscBool stored = (PetscBool)(s->n <= GRAM_SOLVE_DIRECT_MAX);
  PetscReal      *a, *z, *all;
  PetscInt        steps = 0;
  Quadratic       q;

  PetscFunctionBegin;
  PetscCall(Operator(s));
  if (!stored) {
    q.A = s->A_true;
    PetscCall(MatCreateVecs(s->A_true, NULL, &q.z));
    PetscCall(VecGetArrayWrite(q.z, &a));
    PetscCall(PetscArraycpy(a, s->z, s->n_local));
    PetscCall(VecRestoreArrayWrite(q.z, &a));
    PetscCall(Minimize(&q, PETSC_FALSE, s->n_local, w, &steps, &rule->converged));
    PetscCall(VecDestroy(&q.z));
  } else {
    PetscCall(PetscMalloc2(s->n, &z, s->n, &all));
    PetscCall(GramAllGather(s->comm, s->n_local, 1, s->z, z));
    if (!s->rank) PetscCall(ConstrainStored(s, z, all, &steps, &rule->converged));
    PetscCallMPI(MPI_Bcast(all, (PetscMPIInt)s->n, MPIU_REAL, 0, s->comm));
    PetscCallMPI(MPI_Bcast(&steps, 1, MPIU_INT, 0, s->comm));
    PetscCallMPI(MPI_Bcast(&rule->converged, 1, MPIU_BOOL, 0, s->comm));
    PetscCall(PetscArraycpy(w, all + s->start, s->n_local));
    PetscCall(PetscFree2(z, all));
    rule->alpha =
        PetscMax(s->kernel->alpha, GRAM_NONNEGATIVE_ALPHA * s->kernel->amplitude * s->kernel->amplitude);
  }
  rule->relative_residual = NAN; /* that of the weights before */
  rule->iterations += steps;
  PetscCall(
      PetscStrncpy(rule->reason, rule->converged ? "constrained" : "max_iterations", sizeof rule->reason));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* sum, least and negative of w on all ranks */
static PetscErrorCode Count(const Nodes *s, const PetscReal w[], GramRule *rule)
{
  long double sum = 0;

  PetscFunctionBegin;
  rule->least    = PETSC_MAX_REAL;
  rule->negative = 0;
  for (PetscInt i = 0; i < s->n_local; i++) {
    sum += w[i];
    rule->least = PetscMin(rule->least, w[i]);
    rule->negative += w[i] < 0;
  }
  PetscCall(Sum(s->comm, 1, &sum));
  rule->sum = (PetscReal)sum;
  PetscCallMPI(MPI_Allreduce(MPI_IN_PLACE, &rule->least, 1, MPIU_REAL, MPI_MIN, s->comm));
  PetscCallMPI(MPI_Allreduce(MPI_IN_PLACE, &rule->negative, 1, MPIU_INT, MPI_SUM, s->comm));
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramQuadratureWeights(GramPoints X, const GramKernel *kernel, GramBackend backend,
                                     GramMean mean, GramWeightsMethod method, PetscBool sum_to_one,
                                     PetscBool automatic, const GramSolveControl *control, PetscReal w[],
                                     GramRule *rule)
{
  PetscBool    few, changed = PETSC_FALSE;
  GramExtended e;
  Nodes        s;

  PetscFunctionBegin;
  *rule = (GramRule){.converged = PETSC_TRUE, .relative_residual = NAN, .alpha = kernel->alpha};
  PetscCall(
      PetscStrncpy(rule->reason, method == GRAM_WEIGHTS_EQUAL ? "equal" : "extended", sizeof rule->reason));
  PetscCall(NodesCreate(X, kernel, backend, mean, &s));
  few = (PetscBool)(s.n <= GRAM_EXTENDED_MOST);
  for (PetscInt i = 0; i < s.n_local; i++) w[i] = 1 / (PetscReal)s.n;
  if (method != GRAM_WEIGHTS_EQUAL) {
    if (few) {
      PetscCall(Extended(&s, sum_to_one, automatic, w, &rule->alpha, &e));
      GramCheckInput(e.singular < 0 || e.twin < 0, s.comm,
                     "ridge.alpha: %.3g is too small, two nodes are the same point", (double)kernel->alpha);
      GramCheckInput(e.singular < 0, s.comm, "ridge.alpha: %.3g is too small, the kernel matrix is singular",
                     (double)kernel->alpha);
    } else PetscCall(Solve(&s, sum_to_one, control, w, rule));
    if (rule->stopped) goto done;
    PetscCall(Count(&s, w, rule));
    if (method == GRAM_WEIGHTS_NONNEGATIVE && rule->negative) {
      PetscCall(Constrain(&s, w, rule));
      PetscCall(Count(&s, w, rule));
      for (PetscInt i = 0; i < s.n_local && sum_to_one; i++) w[i] /= rule->sum;
      changed = PETSC_TRUE;
    }
  }
  if (few && (changed || method == GRAM_WEIGHTS_EQUAL))
    PetscCall(Extended(&s, PETSC_FALSE, PETSC_FALSE, w, NULL, &e));
  if (few) PetscCall(Take(&e, rule));
  else PetscCall(Errors(&s, w, rule));
  PetscCall(Count(&s, w, rule));
  rule->raised = (PetscBool)(rule->alpha != kernel->alpha);
done:
  PetscCall(NodesDestroy(&s));
  PetscFunctionReturn(PETSC_SUCCESS);
}
