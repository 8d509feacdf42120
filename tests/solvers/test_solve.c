static const char help[] = "Recover known weights, and never call a failure a success.\n";

#include "../check.h"
#include "../check_backend.h"
#include "solve.h"

static PetscErrorCode Problem(PetscInt n, PetscInt q, const GramKernel *kernel, GramBackend backend,
                              GramPoints *X, Mat *A, GramBackend *exact, Mat *A_true, Mat *C, Mat *Y)
{
  PetscMPIInt rank;
  PetscReal  *x, *c;

  PetscFunctionBegin;
  PetscCallMPI(MPI_Comm_rank(PETSC_COMM_WORLD, &rank));
  PetscCall(PetscMalloc2(n * kernel->dim, &x, n * q, &c));
  for (PetscInt i = 0; i < n * kernel->dim; i++) x[i] = CheckUniform(1, (uint64_t)i);
  for (PetscInt i = 0; i < n * q; i++)
    c[i] = i % q == 2 ? 0 : CheckUniform(2, (uint64_t)i) - 0.5; /* column 2 is zero */
  PetscCall(GramPointsCreate(PETSC_COMM_WORLD, kernel->dim, rank ? 0 : n, x, kernel->length_scale, 1, X));
  PetscCall(GramMatCreate(*X, kernel, backend, A));
  PetscCall(GramTrueOperatorCreate(*X, kernel, backend, *A, exact, A_true));
  PetscCall(GramPanelFromInput(*X, 1, q, c, C));
  PetscCall(MatMatMult(*A_true, *C, MAT_INITIAL_MATRIX, PETSC_DEFAULT, Y));
  PetscCall(PetscFree2(x, c));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* C_true -> Y = A C_true -> GramSolve -> C; options: NULL-terminated pairs; products: those of the true operator */
static PetscErrorCode Solve(PetscInt n, PetscInt q, const GramKernel *kernel, GramBackend backend,
                            const char *const options[], GramReport *report, PetscReal *error,
                            PetscInt *products)
{
  GramPoints   X;
  GramBackend  exact;
  GramMatStats before, after;
  Mat          A, A_true, C_true, C, Y;
  PetscReal    norm;

  PetscFunctionBegin;
  for (int i = 0; options[i]; i += 2) PetscCall(PetscOptionsSetValue(NULL, options[i], options[i + 1]));
  PetscCall(Problem(n, q, kernel, backend, &X, &A, &exact, &A_true, &C_true, &Y));
  PetscCall(GramMatGetStats(A_true, &before));
  PetscCall(GramSolve(A, A_true, Y, NULL, &C, report));
  PetscCall(GramMatGetStats(A_true, &after));
  *products = after.products - before.products;
  PetscCall(MatNorm(C_true, NORM_FROBENIUS, &norm));
  PetscCall(MatAXPY(C, -1, C_true, SAME_NONZERO_PATTERN));
  PetscCall(MatNorm(C, NORM_FROBENIUS, error));
  *error /= norm;
  for (int i = 0; options[i]; i += 2) PetscCall(PetscOptionsClearValue(NULL, options[i]));
  PetscCall(MatDestroy(&C));
  PetscCall(MatDestroy(&C_true));
  PetscCall(MatDestroy(&Y));
  PetscCall(MatDestroy(&A_true));
  PetscCall(MatDestroy(&A));
  PetscCall(GramBackendDestroy(&exact));
  PetscCall(GramPointsDestroy(&X));
  PetscFunctionReturn(PETSC_SUCCESS);
}

#define OPTIONS(...) ((const char *const[]){__VA_ARGS__, NULL})

/* Float entries: mixed reaches any tolerance by corrections, single none below its own rounding. */
static PetscErrorCode Refined(const GramKernel *well)
{
  GramKernel  ill = *well;
  GramBackend mixed, single;
  GramReport  report;
  PetscReal   error;
  PetscInt    products;
  PetscBool   found;

  PetscFunctionBegin;
  PetscCall(GramBackendCreate(PETSC_COMM_WORLD, "cpu", GRAM_MIXED, &mixed));
  PetscCall(GramBackendCreate(PETSC_COMM_WORLD, "cpu", GRAM_SINGLE, &single));
  PetscCall(Solve(700, 3, well, mixed, OPTIONS("-solve_method", "iterative", "-ksp_rtol", "1e-10"), &report,
                  &error, &products));
  CHECK(report.converged && report.relative_residual <= 1e-10 && !strcmp(report.reason, "relative_tolerance"),
        "mixed: %s with residual %.2e", report.reason, report.relative_residual);
  CHECK(error <= 1e-6, "mixed: coefficients off by %.2e", error);
  /* two columns of five corrections by 1e-2 to pass 1e-10, and one to spare */
  CHECK(report.exact_from == -1 && products <= 12, "mixed: true operator from iteration %d on, %d products",
        (int)report.exact_from, (int)products);
  CHECK(report.n_history > 5 && report.history[0] == 1 && report.history[report.n_history - 1] <= 1e-10,
        "mixed: history of %d ends with %.2e", (int)report.n_history, report.history[report.n_history - 1]);
  PetscCall(GramReportClear(&report));

  PetscCall(Solve(700, 1, well, mixed,
                  OPTIONS("-solve_method", "iterative", "-pc_type", "none", "-ksp_max_it", "7"), &report,
                  &error, &products));
  CHECK(!report.converged && !strcmp(report.reason, "max_iterations") && report.iterations == 7,
        "mixed, 7 iterations: %s after %d", report.reason, (int)report.iterations);
  PetscCall(GramReportClear(&report));

  PetscCall(Solve(700, 1, well, mixed, OPTIONS("-solve_method", "direct"), &report, &error, &products));
  CHECK(report.converged && report.relative_residual <= 1e-14, "mixed, direct: residual %.2e",
        report.relative_residual);
  PetscCall(GramReportClear(&report));

  PetscCall(Solve(700, 1, well, single, OPTIONS("-solve_method", "iterative", "-ksp_rtol", "1e-10"), &report,
                  &error, &products));
  CHECK(!report.converged && !strcmp(report.reason, "residual") && report.exact_from == -1 && products <= 2,
        "single: %s with residual %.2e, true operator from iteration %d on, %d products", report.reason,
        report.relative_residual, (int)report.exact_from, (int)products);
  PetscCall(GramReportClear(&report));

  /* K has an eigenvalue near 500 and many near 0: the rounding of floats is larger than alpha */
  ill.alpha = 1e-7;
  for (PetscInt k = 0; k < ill.dim; k++) ill.length_scale[k] = 1;
  PetscCall(GramKernelSetType(&ill, "gaussian", NAN, &found));
  PetscCall(Solve(700, 2, &ill, mixed, OPTIONS("-solve_method", "iterative", "-ksp_rtol", "1e-8"), &report,
                  &error, &products));
  CHECK(report.converged && report.relative_residual <= 1e-8, "ill-conditioned: %s with residual %.2e",
        report.reason, report.relative_residual);
  CHECK(report.exact_from == 0, "ill-conditioned: true operator from iteration %d of %d on",
        (int)report.exact_from, (int)report.iterations); /* nothing is tried that cannot do */
  PetscCall(GramReportClear(&report));
  PetscCall(Solve(700, 2, &ill, mixed,
                  OPTIONS("-solve_method", "iterative", "-ksp_rtol", "1e-8", "-pc_type", "none"), &report,
                  &error, &products));
  CHECK(report.converged && report.relative_residual <= 1e-8, "ill-conditioned, none: %s with residual %.2e",
        report.reason, report.relative_residual);
  CHECK(report.exact_from > 0 && report.exact_from < report.iterations,
        "ill-conditioned, none: true operator from iteration %d of %d on", (int)report.exact_from,
        (int)report.iterations); /* there it turns out on the way */
  PetscCall(GramReportClear(&report));
  PetscCall(GramBackendDestroy(&mixed));
  PetscCall(GramBackendDestroy(&single));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* The preconditioner grows once for all columns, in double and when refining; neither takes many iterations then. */
static PetscErrorCode Grown(void)
{
  GramKernel  kernel = {.dim = 3, .amplitude = 1, .alpha = 1e-4, .length_scale = {0.15, 0.15, 0.15}};
  PetscInt    iterations[2], products;
  GramBackend backend;
  GramReport  report;
  PetscReal   error;
  PetscBool   found;

  PetscFunctionBegin;
  PetscCall(GramKernelSetType(&kernel, "gaussian", NAN, &found));
  for (int mixed = 0; mixed < 2; mixed++) {
    PetscCall(GramBackendCreate(PETSC_COMM_WORLD, "cpu", mixed ? GRAM_MIXED : GRAM_DOUBLE, &backend));
    PetscCall(
        Solve(1000, 2, &kernel, backend, OPTIONS("-solve_method", "iterative"), &report, &error, &products));
    CHECK(report.converged && report.pc_rank > 128 && report.pc_neighbors > 30, "%s, rank %d, %d neighbours",
          report.reason, (int)report.pc_rank, (int)report.pc_neighbors);
    iterations[mixed] = report.iterations;
    PetscCall(GramReportClear(&report));
    PetscCall(GramBackendDestroy(&backend));
  }
  CHECK(iterations[1] <= 1.6 * iterations[0] + 5, "mixed: %d iterations, double %d", (int)iterations[1],
        (int)iterations[0]);
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* Nothing to do, nothing that may be done, and numbers whose squares are none: as by a factorisation. */
static PetscErrorCode Edges(const GramKernel *well, GramBackend backend)
{
  const PetscReal amplitude[] = {1e100, 1e-100};
  GramKernel      kernel      = *well;
  GramReport      report;
  PetscReal       error;
  PetscInt        products;

  PetscFunctionBegin;
  for (PetscInt q = 1; q <= 3; q += 2) {
    PetscCall(Solve(300, q, well, backend, OPTIONS("-solve_method", "iterative", "-ksp_max_it", "0"), &report,
                    &error, &products));
    CHECK(!report.converged && !strcmp(report.reason, "max_iterations") && report.iterations == 0 &&
              report.relative_residual == 1,
          "no iterations, %d columns: %s, residual %g", (int)q, report.reason, report.relative_residual);
    PetscCall(GramReportClear(&report));
  }
  PetscCall(Solve(300, 1, well, backend,
                  OPTIONS("-solve_method", "iterative", "-ksp_max_it", "2000000000", "-ksp_rtol", "1e-10"),
                  &report, &error, &products));
  CHECK(report.converged && error <= 1e-6, "any number of iterations: %s", report.reason);
  PetscCall(GramReportClear(&report));
  for (int k = 0; k < 2; k++) {
    kernel.amplitude = amplitude[k];
    kernel.alpha     = well->alpha * amplitude[k] * amplitude[k];
    PetscCall(Solve(300, 2, &kernel, backend, OPTIONS("-solve_method", "iterative", "-ksp_rtol", "1e-10"),
                    &report, &error, &products));
    CHECK(report.converged && error <= 1e-6 && report.iterations < 60,
          "amplitude %g: %s after %d, off by %.1e", amplitude[k], report.reason, (int)report.iterations,
          error);
    PetscCall(GramReportClear(&report));
  }
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* A caller that stops a solve after some iterations, or has it saved and go on, and keeps what it is handed. */
typedef struct {
  PetscInt       left;
  GramRequest    what;
  PetscInt       saves;
  GramSolveState state;
} Caller;

static PetscErrorCode Request(void *ctx, GramRequest *request)
{
  Caller *caller = (Caller *)ctx;

  PetscFunctionBegin;
  *request = caller->left-- > 0 ? GRAM_GO_ON : caller->what;
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode StateClear(GramSolveState *state)
{
  PetscFunctionBegin;
  PetscCall(MatDestroy(&state->X));
  PetscCall(MatDestroy(&state->P));
  PetscCall(PetscFree(state->rz));
  PetscCall(PetscFree(state->iterations));
  PetscCall(PetscFree(state->history));
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode Keep(void *ctx, const GramSolveState *state)
{
  Caller  *caller = (Caller *)ctx;
  PetscInt q;

  PetscFunctionBegin;
  PetscCall(StateClear(&caller->state));
  caller->state = *state;
  PetscCall(MatGetSize(state->X, NULL, &q));
  PetscCall(MatDuplicate(state->X, MAT_COPY_VALUES, &caller->state.X));
  PetscCall(MatDuplicate(state->P, MAT_COPY_VALUES, &caller->state.P));
  PetscCall(PetscMalloc1(q, &caller->state.rz));
  PetscCall(PetscArraycpy(caller->state.rz, state->rz, q));
  PetscCall(PetscMalloc1(q, &caller->state.iterations));
  PetscCall(PetscArraycpy(caller->state.iterations, state->iterations, q));
  PetscCall(PetscMalloc1(state->n_history, &caller->state.history));
  PetscCall(PetscArraycpy(caller->state.history, state->history, state->n_history));
  caller->saves++;
  caller->left = PETSC_MAX_INT;
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* whole [q]: C of an uninterrupted solve */
static PetscErrorCode Off(Mat C, Mat whole, PetscReal *error)
{
  PetscReal norm;

  PetscFunctionBegin;
  PetscCall(MatNorm(whole, NORM_FROBENIUS, &norm));
  PetscCall(MatAXPY(C, -1, whole, SAME_NONZERO_PATTERN));
  PetscCall(MatNorm(C, NORM_FROBENIUS, error));
  *error /= norm;
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* Stopped after any number of iterations and gone on from there, or saved and gone on: the same answer after as many
   iterations; more by a share where the method begins anew. */
static PetscErrorCode Interrupted(const GramKernel *kernel, PetscInt n, PetscInt q, GramPrecision precision,
                                  const char *const options[], PetscReal share)
{
  GramBackend backend, exact;
  GramPoints  X;
  GramReport  report, again;
  Mat         A, A_true, C_true, Y, whole, C;
  PetscReal   error;
  PetscInt    column;

  PetscFunctionBegin;
  for (int i = 0; options[i]; i += 2) PetscCall(PetscOptionsSetValue(NULL, options[i], options[i + 1]));
  PetscCall(PetscOptionsSetValue(NULL, "-solve_method", "iterative"));
  PetscCall(GramBackendCreate(PETSC_COMM_WORLD, "cpu", precision, &backend));
  PetscCall(Problem(n, q, kernel, backend, &X, &A, &exact, &A_true, &C_true, &Y));
  PetscCall(GramSolve(A, A_true, Y, NULL, &whole, &report));
  CHECK(report.converged && !report.stopped, "uninterrupted: %s", report.reason);
  column = report.n_history - 1;
  for (PetscInt stop = 0; stop < 2 * column; stop += PetscMax(1, column / 4)) {
    Caller           caller  = {.left = stop / 2, .what = stop % 2 ? GRAM_SAVE : GRAM_STOP};
    GramSolveControl control = {.request = Request, .save = Keep, .ctx = &caller};

    PetscCall(GramSolve(A, A_true, Y, &control, &C, &again));
    CHECK(again.stopped == (caller.what == GRAM_STOP && caller.saves),
          "%s options, stop after %d: stopped %d", options[0] ? options[1] : "no", (int)stop / 2,
          (int)again.stopped);
    if (again.stopped) {
      CHECK(caller.state.total == again.iterations && again.iterations < report.iterations + q,
            "stopped after %d iterations, state says %d, %d in all", (int)again.iterations,
            (int)caller.state.total, (int)report.iterations);
      PetscCall(MatDestroy(&C));
      PetscCall(GramReportClear(&again));
      control.from = &caller.state;
      PetscCall(GramSolve(A, A_true, Y, &control, &C, &again));
    }
    CHECK(again.converged && !again.stopped, "gone on after %d (%s): %s, residual %.1e", (int)stop / 2,
          options[0] ? options[1] : "no options", again.reason, again.relative_residual);
    CHECK(again.iterations <=
              (1 + share) * report.iterations + 3 * q * (caller.what == GRAM_STOP || share > 0),
          "interrupted after %d iterations (%s): %d in all, %d without", (int)stop / 2,
          options[0] ? options[1] : "no options", (int)again.iterations, (int)report.iterations);
    PetscCall(Off(C, whole, &error));
    CHECK(error <= 1e-8 * n / kernel->alpha, "interrupted after %d: coefficients off by %.1e", (int)stop / 2,
          error);
    PetscCall(MatDestroy(&C));
    PetscCall(GramReportClear(&again));
    PetscCall(StateClear(&caller.state));
  }
  PetscCall(GramReportClear(&report));
  PetscCall(MatDestroy(&whole));
  PetscCall(MatDestroy(&C_true));
  PetscCall(MatDestroy(&Y));
  PetscCall(MatDestroy(&A_true));
  PetscCall(MatDestroy(&A));
  PetscCall(GramBackendDestroy(&exact));
  PetscCall(GramBackendDestroy(&backend));
  PetscCall(GramPointsDestroy(&X));
  PetscCall(PetscOptionsClearValue(NULL, "-solve_method"));
  for (int i = 0; options[i]; i += 2) PetscCall(PetscOptionsClearValue(NULL, options[i]));
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode Interruptions(const GramKernel *well)
{
  GramKernel hard = {.dim = 3, .amplitude = 1, .alpha = 1e-4, .length_scale = {0.15, 0.15, 0.15}};
  PetscBool  found;

  PetscFunctionBegin;
  PetscCall(Interrupted(well, 700, 1, GRAM_DOUBLE, OPTIONS("-ksp_rtol", "1e-10"), 0));
  PetscCall(Interrupted(well, 700, 3, GRAM_DOUBLE, OPTIONS("-ksp_rtol", "1e-10"), 0));
  PetscCall(Interrupted(well, 500, 2, GRAM_DOUBLE, OPTIONS("-pc_type", "none", "-ksp_rtol", "1e-10"), 0.1));
  PetscCall(Interrupted(well, 300, 35, GRAM_DOUBLE, OPTIONS("-ksp_rtol", "1e-10"), 0.1));
  PetscCall(Interrupted(well, 500, 2, GRAM_MIXED, OPTIONS("-ksp_rtol", "1e-10"), 0.3));
  PetscCall(Interrupted(well, 500, 2, GRAM_DOUBLE, OPTIONS("-ksp_type", "gmres", "-ksp_rtol", "1e-10"), 1));
  PetscCall(GramKernelSetType(&hard, "gaussian", NAN, &found)); /* lrv grows on the way */
  PetscCall(Interrupted(&hard, 1000, 1, GRAM_DOUBLE, OPTIONS("-ksp_rtol", "1e-8"), 0.15));
  PetscFunctionReturn(PETSC_SUCCESS);
}

int main(int argc, char **argv)
{
  GramBackend backend;
  GramKernel  kernel;
  GramReport  report;
  PetscReal   error;
  PetscInt    products;
  PetscBool   found;
  char        name[16];

  PetscCall(PetscInitialize(&argc, &argv, NULL, help));
  PetscCall(CheckBackendFound("cpu", name, &found));
  if (!found) return PetscFinalize() ? 1 : 77;
  PetscCall(PetscOptionsSetValue(NULL, "-ridge_alpha", "0.1"));
  PetscCall(PetscOptionsSetValue(NULL, "-kernel_length_scale", "0.2"));
  PetscCall(GramKernelSetFromOptions(PETSC_COMM_WORLD, 2, &kernel));
  PetscCall(GramBackendCreateFromOptions(PETSC_COMM_WORLD, &backend));

  for (PetscInt n = 1; n <= 700; n += 233) {
    PetscCall(Solve(n, 3, &kernel, backend, OPTIONS("-solve_method", "direct"), &report, &error, &products));
    CHECK(report.converged && !strcmp(report.reason, "direct") && report.iterations == 0, "direct: %s",
          report.reason);
    CHECK(!report.pc[0], "direct: preconditioner %s", report.pc);
    CHECK(error <= 1e-11, "direct: coefficients off by %.2e",
          error); /* eps times the condition number, 1e3 here */
    CHECK(report.relative_residual <= 1e-14, "direct: residual %.2e", report.relative_residual);
    CHECK(products == report.n_history - 1, "direct: %d products, %d residuals", (int)products,
          (int)report.n_history - 1);
    PetscCall(GramReportClear(&report));

    PetscCall(Solve(n, 3, &kernel, backend, OPTIONS("-solve_method", "iterative", "-ksp_rtol", "1e-10"),
                    &report, &error, &products));
    CHECK(report.converged && !strcmp(report.reason, "relative_tolerance"), "iterative: %s", report.reason);
    CHECK(error <= 1e-6 && report.relative_residual <= 1e-10,
          "iterative: coefficients off by %.2e, residual %.2e", error, report.relative_residual);
    CHECK(n == 1 || products <=
                        report.iterations + 2 + 5, /* a residual for both columns that are not 0, restarts */
          "iterative: %d products for %d iterations", (int)products, (int)report.iterations);
    CHECK(!strcmp(report.pc, "lrv") && report.pc_rank > 0, "iterative: %s of rank %d by default", report.pc,
          (int)report.pc_rank);
    CHECK(n == 1 || report.n_history > 3, "iterative: %d entries of history", (int)report.n_history);
    PetscCall(GramReportClear(&report));
  }

  PetscCall(Solve(500, 1, &kernel, backend,
                  OPTIONS("-solve_method", "iterative", "-pc_type", "none", "-ksp_max_it", "3"), &report,
                  &error, &products));
  CHECK(!report.converged && !strcmp(report.reason, "max_iterations") && report.iterations == 3,
        "3 iterations: %s", report.reason);
  CHECK(report.relative_residual > 1e-8 && report.relative_residual < 1, "3 iterations: residual %.2e",
        report.relative_residual);
  CHECK(products == 3 + 1, "3 iterations: %d products", (int)products); /* one more certifies */
  PetscCall(GramReportClear(&report));

  PetscCall(Solve(500, 1, &kernel, backend,
                  OPTIONS("-solve_method", "iterative", "-pc_type", "none", "-ksp_rtol", "1e-6"), &report,
                  &error, &products));
  CHECK(report.converged && report.iterations > GRAM_SOLVE_SLOW && report.iterations == report.n_history - 1,
        "none: %d products for %d iterations, %s", (int)report.iterations, (int)report.n_history - 1,
        report.reason); /* slow, and nothing can grow: it is left alone */
  CHECK(!strcmp(report.pc, "none") && report.pc_rank == 0 && report.pc_neighbors == 0,
        "none: says %s of rank %d", report.pc, (int)report.pc_rank);
  PetscCall(GramReportClear(&report));

  /* a tolerance below the rounding of a product ends in working accuracy, not in an endless loop */
  PetscCall(Solve(500, 1, &kernel, backend, OPTIONS("-solve_method", "iterative", "-ksp_rtol", "1e-18"),
                  &report, &error, &products));
  CHECK(report.relative_residual < 1e-13, "rtol 1e-18: residual %.2e", report.relative_residual);
  CHECK(report.converged == !strcmp(report.reason, "working_accuracy"), "rtol 1e-18: %s", report.reason);
  CHECK(report.converged || report.backward_error < 1e-14, "rtol 1e-18: backward error %.2e",
        report.backward_error);
  PetscCall(GramReportClear(&report));

  PetscCall(Refined(&kernel));
  PetscCall(Grown());
  PetscCall(Edges(&kernel, backend));
  PetscCall(Interruptions(&kernel));

  /* numerically singular: whatever is claimed, the residual must bear it out */
  PetscCall(PetscOptionsSetValue(NULL, "-kernel_type", "gaussian"));
  PetscCall(PetscOptionsSetValue(NULL, "-ridge_alpha", "0"));
  PetscCall(GramKernelSetFromOptions(PETSC_COMM_WORLD, 2, &kernel));
  PetscCall(Solve(500, 1, &kernel, backend, OPTIONS("-solve_method", "direct"), &report, &error, &products));
  CHECK(report.lu &&
            (report.converged ? report.relative_residual <= 1e-8 : !strcmp(report.reason, "indefinite")),
        "singular, direct: %s with residual %.2e", report.reason, report.relative_residual);
  PetscCall(GramReportClear(&report));
  PetscCall(Solve(500, 1, &kernel, backend,
                  OPTIONS("-solve_method", "iterative", "-ksp_rtol", "1e-15", "-ksp_max_it", "2000"), &report,
                  &error, &products));
  CHECK(!report.converged || report.relative_residual <= 1e-15 ||
            report.backward_error <= PETSC_MACHINE_EPSILON,
        "singular, iterative: %s with residual %.2e", report.reason, report.relative_residual);
  PetscCall(GramReportClear(&report));

  PetscCall(GramBackendDestroy(&backend));
  PetscCall(PetscFinalize());
  return check_failures != 0;
}
