/* gramarye VERB CONFIG.yaml [CONFIG.yaml ...] [-key value ...] */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "config.h"
#include "h5.h"
#include "progress.h"
#include "resume.h"
#include "verbs.h"

static const char usage[] =
    "usage: gramarye VERB CONFIG.yaml [CONFIG.yaml ...] [-key value ...]\n"
    "\n"
    "  solve    fit a model, write it; predict at targets when they are given\n"
    "  predict  evaluate a model at targets\n"
    "  nodes    generate quadrature nodes, their weights and worst-case error\n"
    "  weights  weights and worst-case error of given nodes\n"
    "  bench    time products and solves; one JSON object per line per case\n"
    "  info     what this build and this machine can do (no config)\n"
    "\n"
    "Any key of a config can be given on the command line: kernel: {nu: 2.5} is -kernel_nu 2.5.\n"
    "-help with a verb and a config prints every option with its default.\n";

static const struct {
  const char *name;
  PetscErrorCode (*run)(MPI_Comm comm, GramOutcome *outcome);
  const char *config; /* an example, named when a verb that needs one is given none */
} verbs[] = {
    {"solve", GramVerbSolve, NULL},
    {"predict", GramVerbPredict, NULL},
    {"nodes", GramVerbNodes, NULL},
    {"weights", GramVerbWeights, NULL},
    {"bench", GramVerbBench, "configs/bench_products.yaml"},
    {"info", GramVerbInfo, NULL},
};

enum { EXIT_DONE = 0, EXIT_INPUT = 2, EXIT_UNCONVERGED = 3, EXIT_RESOURCE = 4, EXIT_STOPPED = 75 };

/* What PETSc itself refuses is the user's input too, when it is of these kinds. */
static int ExitCode(PetscErrorCode error)
{
  switch (error) {
  case 0: return EXIT_DONE;
  case GRAM_ERR_INPUT:
  case PETSC_ERR_ARG_OUTOFRANGE:
  case PETSC_ERR_ARG_UNKNOWN_TYPE:
  case PETSC_ERR_ARG_WRONG:
  case PETSC_ERR_ARG_INCOMP:
  case PETSC_ERR_ARG_SIZ:
  case PETSC_ERR_FILE_OPEN:
  case PETSC_ERR_FILE_READ:
  case PETSC_ERR_FILE_UNEXPECTED:
  case PETSC_ERR_MISSING_FACTOR: /* a pc that wants stored entries */
  case PETSC_ERR_SUP: return EXIT_INPUT;
  default: return EXIT_RESOURCE;
  }
}

/*
  One line from one rank. An error that all ranks meet unwinds through PetscCall to main. One that is met by some
  ranks only would leave the others waiting, so it ends the job; the first rank speaks first.
*/
static PetscErrorCode OneLine(MPI_Comm comm, int line, const char *function, const char *file,
                              PetscErrorCode n, PetscErrorType type, const char *message, void *ctx)
{
  int  rank, size, world;
  char text[1024];

  (void)ctx;
  if (getenv("GRAM_TRACEBACK"))
    (void)PetscTraceBackErrorHandler(comm, line, function, file, n, type, message, ctx);
  if (type != PETSC_ERROR_INITIAL) return n;
  (void)MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  (void)MPI_Comm_size(MPI_COMM_WORLD, &world);
  (void)MPI_Comm_size(comm, &size);
  if (size < world && rank > 0) (void)sleep(1);
  if (size < world || rank == 0) {
    if (n == PETSC_ERR_MEM) (void)snprintf(text, sizeof text, "memory: an allocation failed in %s", function);
    else (void)snprintf(text, sizeof text, "%s", message && message[0] ? message : "failed");
    for (char *c = text; *c; c++) {
      if (*c == '\n') *c = ' ';
    }
    (void)fflush(stdout);
    (void)fprintf(stderr, "gramarye: %s\n", text);
  }
  if (size < world) (void)MPI_Abort(MPI_COMM_WORLD, ExitCode(n));
  return n;
}

/* Before PETSc runs: every rank knows the problem, the first one says it. */
static int Refuse(const char *problem)
{
  int rank;

  (void)MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  if (rank == 0) (void)fprintf(stderr, "gramarye: %s\n", problem);
  (void)MPI_Finalize();
  return EXIT_INPUT;
}

static PetscErrorCode Run(const GramCommand *command, size_t verb, GramOutcome *outcome)
{
  PetscFunctionBegin;
  PetscCall(GramConfigCheck(PETSC_COMM_WORLD, command));
  PetscCall(GramProgressSetFromOptions(PETSC_COMM_WORLD));
  PetscCall(verbs[verb].run(PETSC_COMM_WORLD, outcome));
  PetscCall(GramConfigWarnUnused(PETSC_COMM_WORLD));
  PetscFunctionReturn(PETSC_SUCCESS);
}

int main(int argc, char **argv)
{
  GramCommand    command;
  char           problem[2 * PETSC_MAX_PATH_LEN];
  char         **args;
  int            n_args, rank;
  size_t         verb    = 0;
  GramOutcome    outcome = GRAM_DONE;
  PetscErrorCode error;

  GramSignalsCatch();
  (void)MPI_Init(&argc, &argv);
  (void)MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  GramCommandParse(argc, argv, &command, problem, sizeof problem);
  if (!command.verb || !strcmp(command.verb, "-help") || !strcmp(command.verb, "--help") ||
      !strcmp(command.verb, "-h")) {
    if (rank == 0) (void)fputs(usage, command.verb ? stdout : stderr);
    (void)MPI_Finalize();
    return command.verb ? EXIT_DONE : EXIT_INPUT;
  }
  for (; verb < PETSC_STATIC_ARRAY_LENGTH(verbs) && strcmp(command.verb, verbs[verb].name); verb++) continue;
  if (verb == PETSC_STATIC_ARRAY_LENGTH(verbs)) {
    (void)snprintf(problem, sizeof problem, "unknown verb '%s' (solve, predict, nodes, weights, bench, info)",
                   command.verb);
  } else if (verbs[verb].config && !command.n_configs && !problem[0]) {
    (void)snprintf(problem, sizeof problem, "%s: no config given, such as %s", command.verb,
                   verbs[verb].config);
  }
  if (problem[0]) return Refuse(problem);
  GramConfigsInspect(MPI_COMM_WORLD, &command, problem, sizeof problem);
  if (problem[0]) return Refuse(problem);

  args  = GramCommandPetscArgs(&command, &n_args);
  error = PetscPushErrorHandler(OneLine, NULL);
  if (!error) error = PetscInitialize(&n_args, &args, NULL, usage);
  if (error) { /* OneLine has spoken */
    (void)MPI_Finalize();
    return EXIT_INPUT;
  }
  (void)signal(SIGPIPE, SIG_IGN); /* "gramarye info | head" is no crash */
  (void)signal(SIGXFSZ,
               SIG_IGN); /* nor is a file beyond ulimit -f: writing it is an error as on a full disk */
  error = Run(&command, verb, &outcome);
  if (error) (void)GramH5GiveUp(MPI_COMM_WORLD); /* of a result that was begun */
  if (GramH5IsLost()) {                          /* see there: MPI_Finalize would not return */
    (void)MPI_Barrier(MPI_COMM_WORLD);
    _exit(ExitCode(error));
  }
  (void)PetscFinalize();
  free(args);
  (void)MPI_Finalize();
  if (error) return ExitCode(error);
  if (outcome == GRAM_STOPPED) return EXIT_STOPPED;
  return outcome == GRAM_DONE ? EXIT_DONE : EXIT_UNCONVERGED;
}
