/* gramarye solve: fit (K(X, X) + alpha I) a = y, predict where asked, write the model. */
#include <string.h>

#include "loo.h"
#include "lrv.h"
#include "result.h"
#include "resume.h"
#include "update.h"
#include "verbs.h"

/* [n_local][numbers][q]: values, and with gradients (q = 1) these behind each; free with PetscFree() */
static PetscErrorCode ValuesJoin(const GramDataset *data, PetscReal **values)
{
  const PetscInt numbers = data->gradients ? 1 + data->dim : 1;

  PetscFunctionBegin;
  PetscCall(PetscMalloc1(GramAt(data->n_local, numbers * data->q, 0), values));
  for (PetscInt i = 0; i < data->n_local; i++) {
    PetscReal *at = *values + GramAt(i, numbers * data->q, 0);

    PetscCall(PetscArraycpy(at, data->y + GramAt(i, data->q, 0), data->q));
    if (data->gradients)
      PetscCall(PetscArraycpy(at + 1, data->gradients + GramAt(i, data->dim, 0), data->dim));
  }
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* [n][q] on the curve to input order, times the scale of values */
static PetscErrorCode ToInput(const GramDataset *data, GramPoints X, PetscInt q, const PetscReal *curve,
                              PetscReal **input)
{
  PetscFunctionBegin;
  *input = NULL;
  if (!curve) PetscFunctionReturn(PETSC_SUCCESS);
  PetscCall(PetscMalloc1(GramAt(data->n_local, q, 0), input));
  PetscCall(GramPointsToInput(X, q, curve, *input));
  for (PetscInt i = 0; i < data->n_local; i++) {
    for (PetscInt r = 0; r < q; r++) (*input)[GramAt(i, q, r)] *= data->scaling.value_scale[r];
  }
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* in original units and input order; of an answer that is none nothing is known */
static PetscErrorCode LeaveOneOut(const GramDataset *data, GramPoints X, GramSolver solver, Mat C,
                                  GramLoo *loo)
{
  GramLeaveOneOut e;

  PetscFunctionBegin;
  PetscCall(GramLeaveOneOutCreate(solver, C, &e));
  PetscCall(ToInput(data, X, data->q, e.value, &loo->value));
  PetscCall(ToInput(data, X, data->q, e.error, &loo->error));
  PetscCall(ToInput(data, X, 1, e.block, &loo->block));
  PetscCall(GramLeaveOneOutDestroy(&e));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* the share of A's pairs that its products left out, on all ranks */
static PetscErrorCode SkippedFraction(Mat A, PetscReal *fraction)
{
  GramMatStats   stats;
  PetscLogDouble pairs[2];

  PetscFunctionBegin;
  PetscCall(GramMatGetStats(A, &stats));
  pairs[0] = stats.skipped;
  pairs[1] = stats.skipped + stats.evaluated;
  PetscCallMPI(MPI_Allreduce(MPI_IN_PLACE, pairs, 2, MPI_DOUBLE, MPI_SUM, PetscObjectComm((PetscObject)A)));
  *fraction = pairs[1] > 0 ? pairs[0] / pairs[1] : 0;
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* a ridge below is lost in the rounding of K where K is singular */
static PetscReal LeastAlpha(const GramModel *model)
{
  return GRAM_LRV_ALPHA_LEAST * (PetscReal)model->n * model->kernel.amplitude * model->kernel.amplitude;
}

/* what a user can do about each reason of not converging */
static PetscErrorCode Remedy(const GramModel *model, const char *reason, char text[], size_t size)
{
  PetscFunctionBegin;
  if (!strcmp(reason, "max_iterations"))
    PetscCall(PetscStrncpy(text, "raise ksp.max_it or ridge.alpha, or take solve.method direct", size));
  else if (!strcmp(reason, "indefinite"))
    PetscCall(PetscSNPrintf(
        text, size,
        "the matrix is numerically singular: raise ridge.alpha from %.6g to %.1e, the least that can be "
        "solved, or for predictions to much more",
        (double)model->kernel.alpha, (double)LeastAlpha(model)));
  else if (!strcmp(reason, "residual"))
    PetscCall(PetscStrncpy(
        text, "its products cannot reach ksp.rtol: product.precision mixed or double, or a larger ksp.rtol",
        size));
  else PetscCall(PetscStrncpy(text, "raise ridge.alpha, or take solve.method direct", size));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* what was learnt about the matrix */
static PetscErrorCode SummarizeSpectrum(MPI_Comm comm, const GramModel *model, const GramRun *run)
{
  PetscFunctionBegin;
  if (run->eigenvalue_min <= 0)
    PetscCall(GramSay(comm, "spectrum", "preconditioned, %.3g ... %.3g: not positive definite",
                      (double)run->eigenvalue_min, (double)run->eigenvalue_max));
  else if (!PetscIsNanReal(run->eigenvalue_min))
    PetscCall(GramSay(comm, "spectrum", "preconditioned, %.3g ... %.3g at least: condition %.3g or more",
                      (double)run->eigenvalue_min, (double)run->eigenvalue_max,
                      (double)(run->eigenvalue_max / run->eigenvalue_min)));
  if (run->numerical_rank >= 0 && run->numerical_rank < model->n)
    PetscCall(GramSay(comm, "rank", "%" PetscInt_FMT " of %" PetscInt_FMT " in double precision, alpha %.6g",
                      run->numerical_rank, model->n, (double)model->kernel.alpha));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* what a user has to know about an answer that is called converged */
static PetscErrorCode WarnOfRounding(MPI_Comm comm, const GramModel *model, const GramRun *run)
{
  const PetscBool missed = (PetscBool)!strcmp(run->reason, "working_accuracy"),
                  small  = (PetscBool)(model->kernel.alpha < LeastAlpha(model)),
                  known  = (PetscBool)(run->numerical_rank >= 0 && run->numerical_rank < model->n);
  char rank[64]          = "";

  PetscFunctionBegin;
  if (run->lu && !missed)
    PetscCall(
        PetscFPrintf(comm, stderr,
                     "gramarye: warning: ridge.alpha: %.6g leaves the matrix numerically singular: rounding "
                     "shapes the coefficients\n",
                     (double)model->kernel.alpha));
  if (!missed && !(small && known)) PetscFunctionReturn(PETSC_SUCCESS);
  if (known)
    PetscCall(PetscSNPrintf(rank, sizeof rank, ", numerical rank %" PetscInt_FMT " of %" PetscInt_FMT,
                            run->numerical_rank, model->n));
  if (missed)
    PetscCall(
        PetscFPrintf(comm, stderr,
                     "gramarye: warning: residual %.1e is where rounding ends it, above ksp.rtol%s: a larger "
                     "ridge.alpha than %.6g would be solved to it\n",
                     (double)run->relative_residual, rank, (double)model->kernel.alpha));
  else
    PetscCall(PetscFPrintf(
        comm, stderr,
        "gramarye: warning: ridge.alpha: %.6g is below %.1e%s: rounding shapes the coefficients\n",
        (double)model->kernel.alpha, (double)LeastAlpha(model), rank));
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode Summarize(MPI_Comm comm, const GramModel *model, const GramTargets *targets,
                                const GramRun *run, const char *detail, PetscReal tolerance,
                                const PetscReal loo[], const GramPrediction *prediction, const char *path)
{
  const PetscBool solved    = (PetscBool)(run->converged || !strcmp(run->reason, GRAM_REASON_VARIANCE));
  char            until[64] = "", remedy[160];

  PetscFunctionBegin;
  PetscCall(GramSay(comm, "solve",
                    "%s on %" PetscInt_FMT " rank%s, %s (%s), %s: %s, %" PetscInt_FMT " iterations",
                    run->method, run->ranks, run->ranks == 1 ? "" : "s", run->backend, detail, run->precision,
                    solved ? "converged" : "NOT CONVERGED", run->iterations));
  if (run->pc && run->pc_rank + run->pc_neighbors > 0)
    PetscCall(GramSay(comm, "pc", "%s, rank %" PetscInt_FMT ", %" PetscInt_FMT " neighbours", run->pc,
                      run->pc_rank, run->pc_neighbors));
  else if (run->pc) PetscCall(GramSay(comm, "pc", "%s", run->pc));
  PetscCall(GramSay(comm, "residual", "%.3e relative, backward error %.1e (%s)",
                    (double)run->relative_residual, (double)run->backward_error, run->reason));
  PetscCall(SummarizeSpectrum(comm, model, run));
  if (run->exact_from >= 0 && strcmp(run->precision, "double") != 0)
    PetscCall(GramSay(comm, "precision", "%s, double from iteration %" PetscInt_FMT, run->precision,
                      run->exact_from));
  if (run->skipped_fraction > 0) {
    if (run->exact_from >= 0)
      PetscCall(PetscSNPrintf(until, sizeof until, ", none from iteration %" PetscInt_FMT, run->exact_from));
    PetscCall(GramSay(comm, "products", "%.3g %% of the pairs skipped (product.tolerance %g)%s",
                      100 * (double)run->skipped_fraction, (double)tolerance, until));
  }
  if (!PetscIsNanReal(loo[1]))
    PetscCall(
        GramSay(comm, "leave-one-out", "rms %.6g, of whole points %.6g", (double)loo[0], (double)loo[1]));
  else if (!PetscIsNanReal(loo[0])) PetscCall(GramSay(comm, "leave-one-out", "rms %.6g", (double)loo[0]));
  PetscCall(GramPredictSay(targets, prediction));
  PetscCall(GramSay(comm, "time", "%.2f s: read %.2f, set-up %.2f, solve %.2f, predict %.2f; %.3g Gpair/s",
                    run->total_seconds, run->read_seconds, run->setup_seconds, run->solve_seconds,
                    run->predict_seconds, run->pairs_per_second * 1e-9));
  PetscCall(GramSay(
      comm, "memory", "%.3g GB at the peak, %.3g GB predicted", run->peak_memory_bytes * 1e-9,
      (run->settled_memory_bytes > 0 ? run->settled_memory_bytes : run->predicted_memory_bytes) * 1e-9));
  PetscCall(GramSay(comm, "output", "%s", path));
  if (solved) PetscCall(WarnOfRounding(comm, model, run));
  else {
    PetscCall(Remedy(model, run->reason, remedy, sizeof remedy));
    PetscCall(PetscFPrintf(comm, stderr, "gramarye: warning: not converged (%s), residual %.1e: %s\n",
                           run->reason, (double)run->relative_residual, remedy));
  }
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramVerbSolve(MPI_Comm comm, GramOutcome *outcome)
{
  GramDataset    data;           /* rows of the file, in input order */
  GramTargets    targets;        /* where to predict, likewise */
  GramModel      model;          /* what is written */
  GramPoints     X;              /* [N, dim] inputs along the curve, rows spread over the ranks */
  Mat            Y, C;           /* [N, q] values and coefficients, laid out as X */
  GramBackend    backend, exact; /* ref, cpu or cuda; the same in double where backend is not */
  GramSchedule   schedule;       /* how products are spread over the ranks */
  Mat            A, A_true;      /* [N, N] = K(X, X) + alpha I, never stored */
  GramSolver     solver;         /* its tail, its preconditioner or factor */
  GramReport     report;         /* iterations, true residual, seconds */
  GramRun        run;            /* the account of all this */
  GramResume     resume;         /* checkpoints: where it goes on from, and who may stop it */
  GramH5         file;
  GramLoo        loo        = {0};
  GramPrediction prediction = {0};
  PetscReal     *values, loo_rms[2] = {NAN, NAN};
  PetscInt       numbers;  /* that a point carries */
  PetscLogDouble pc_bytes; /* of run.predicted_memory_bytes */
  const char    *detail;
  char           path[PETSC_MAX_PATH_LEN], line[256];

  PetscFunctionBegin;
  PetscCall(GramRunBegin(&run, "solve"));
  PetscCall(PetscMemzero(&model, sizeof model));

  /* the problem: -data_*, -target_*, -kernel_*, -ridge_*; and -product_*, before the data are read */
  PetscCall(GramOutputFromOptions(comm, path, sizeof path));
  PetscCall(GramScheduleFromOptions(comm, &schedule));
  PetscCall(GramDatasetRead(comm, &data));
  PetscCall(GramTargetsOpen(comm, &data.scaling, data.dim_file, data.n_local, data.x_file, &targets));
  PetscCall(GramKernelSetFromOptions(comm, data.dim, &model.kernel));
  if (data.gradients) PetscCall(GramKernelTakeGradients(comm, &model.kernel));
  numbers = GramKernelNumbers(&model.kernel);
  PetscCall(GramBackendCreateFromOptions(comm, &backend));
  PetscCall(GramBackendGetInfo(backend, NULL, &detail, NULL));
  PetscCall(
      GramPointsCreate(comm, data.dim, data.n_local, data.x, model.kernel.length_scale, schedule.block, &X));
  if (model.kernel.alpha == 0) PetscCall(GramDatasetRefuseEqual(&data, X)); /* they make K singular */
  PetscCall(ValuesJoin(&data, &values));
  PetscCall(GramPanelFromInput(X, numbers, data.q, values, &Y));
  PetscCall(PetscFree(values));
  model.comm     = comm;
  model.scaling  = data.scaling;
  model.n        = data.n;
  model.n_local  = data.n_local;
  model.dim_file = data.dim_file;
  model.q        = data.q;
  model.x_file   = data.x_file;
  PetscCall(PetscOptionsGetBool(NULL, NULL, "-output_loo", &model.loo, NULL));
  PetscCall(GramRunLap(&run.read_seconds));

  /* what it will take */
  PetscCall(GramKernelView(&model.kernel, line, sizeof line));
  PetscCall(GramSay(
      comm, "problem",
      "%" PetscInt_FMT " points in %" PetscInt_FMT " dimensions, %s%" PetscInt_FMT " right-hand side%s",
      data.n, data.dim, data.gradients ? "with gradients, " : "", data.q, data.q == 1 ? "" : "s"));
  PetscCall(GramSay(comm, "kernel", "%s", line));
  PetscCall(GramSolveEstimate(comm, backend, &model.kernel, data.n, targets.chunk, data.q, targets.variance,
                              &run.predicted_memory_bytes, &pc_bytes, line, sizeof line));
  PetscCall(GramSay(comm, "estimate", "%s", line));
  PetscCall(GramH5CheckSpace(comm, path, "output.file", GramResultBytes(&model, &targets, &run)));
  PetscCall(GramResumeCreate(comm, path, &data, X, &model.kernel, &resume)); /* -checkpoint_* */
  resume.memory = run.predicted_memory_bytes - pc_bytes;
  PetscCall(GramUpdateFromOptions(&data, X, &model.kernel, &resume.control.guess)); /* -model_file */

  /* the operator: -backend, -product_*; the solve: -solve_method, -ksp_*, -pc_* */
  PetscCall(GramMatCreate(X, &model.kernel, backend, &A));
  PetscCall(GramTrueOperatorCreate(X, &model.kernel, backend, A, &exact, &A_true));
  PetscCall(GramSolverCreate(A, A_true, &solver));
  PetscCall(GramSolverSolve(solver, Y, &resume.control, &C, &report));
  PetscCall(SkippedFraction(A, &run.skipped_fraction));
  PetscCall(GramRunLap(&run.solve_seconds));
  *outcome = report.stopped ? GRAM_STOPPED : report.converged ? GRAM_DONE : GRAM_UNCONVERGED;
  if (report.stopped) {
    PetscCall(GramSay(comm, "stopped",
                      "by a signal after %" PetscInt_FMT " iterations; the same command goes on from %s",
                      report.iterations, resume.saving.path));
    goto done;
  }

  /* what the model is worth: -output_loo */
  if (model.loo) PetscCall(LeaveOneOut(&data, X, solver, C, &loo));

  /* the result, to which the prediction goes chunk by chunk: -output_*, -target_* */
  model.n_tail = report.n_tail;
  model.tail   = report.tail;
  PetscCall(PetscMalloc1(GramAt(data.n_local, numbers * data.q, 0), &model.coefficients));
  PetscCall(GramPanelToInput(X, numbers, C, model.coefficients));
  run.method               = report.method == GRAM_SOLVE_DIRECT ? "direct" : "iterative";
  run.reason               = report.reason;
  run.iterations           = report.iterations;
  run.exact_from           = report.exact_from;
  run.pc                   = report.pc[0] ? report.pc : NULL;
  run.pc_rank              = report.pc_rank;
  run.pc_neighbors         = report.pc_neighbors;
  run.pc_alpha             = report.pc_alpha;
  run.lu                   = report.lu;
  run.numerical_rank       = report.numerical_rank;
  run.eigenvalue_min       = report.eigenvalue_min;
  run.eigenvalue_max       = report.eigenvalue_max;
  run.converged            = report.converged;
  run.relative_residual    = report.relative_residual;
  run.backward_error       = report.backward_error;
  run.n_history            = report.n_history;
  run.history              = report.history;
  run.setup_seconds        = report.setup_seconds;
  run.solve_seconds        = report.solve_seconds;
  run.pairs_per_second     = report.pairs_per_second;
  run.settled_memory_bytes = resume.settled;
  PetscCall(GramH5Create(comm, path, "output.file", GramResultBytes(&model, &targets, &run), &file));
  PetscCall(GramModelWrite(file, &model));
  if (loo.value) PetscCall(GramLooWrite(file, &model, &loo, &loo_rms[0], &loo_rms[1]));
  if (targets.n)
    PetscCall(GramPredict(&(GramFit){X, &model.kernel, backend, C, report.tail, solver}, &targets, file,
                          &prediction));
  PetscCall(GramRunLap(&run.predict_seconds));
  if (targets.variance) run.variance_missed = prediction.missed;
  if (prediction.missed && report.converged) {
    run.converged = PETSC_FALSE;
    run.reason    = GRAM_REASON_VARIANCE;
    *outcome      = GRAM_UNCONVERGED;
  }
  PetscCall(GramRunEnd(comm, backend, &run));
  PetscCall(GramRunWrite(file, comm, &run));
  PetscCall(GramH5Close(&file));
  PetscCall(Summarize(comm, &model, &targets, &run, detail, schedule.tolerance, loo_rms, &prediction, path));

done:
  PetscCall(MatDestroy(&resume.control.guess));
  PetscCall(GramResumeDestroy(&resume, (PetscBool)!report.stopped));
  PetscCall(PetscFree(loo.value));
  PetscCall(PetscFree(loo.error));
  PetscCall(PetscFree(loo.block));
  PetscCall(GramSolverDestroy(&solver));
  PetscCall(PetscFree(model.coefficients));
  PetscCall(GramReportClear(&report));
  PetscCall(GramRunClear(&run));
  PetscCall(MatDestroy(&A_true));
  PetscCall(MatDestroy(&A));
  PetscCall(MatDestroy(&Y));
  PetscCall(MatDestroy(&C));
  PetscCall(GramBackendDestroy(&exact));
  PetscCall(GramBackendDestroy(&backend));
  PetscCall(GramPointsDestroy(&X));
  PetscCall(GramTargetsClose(&targets));
  PetscCall(GramDatasetClear(&data));
  PetscFunctionReturn(PETSC_SUCCESS);
}
