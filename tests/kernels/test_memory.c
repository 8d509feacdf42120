static const char help[] =
    "Memory that limits leave: control groups of both versions, and what SLURM granted.\n";

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../check.h"
#include "memory.h"

static char root[] = "gramarye-memory-XXXXXX";

/* root/name, with the folders on the way to it */
static void Write(const char *name, const char *text)
{
  char  path[256];
  FILE *file;

  (void)snprintf(path, sizeof path, "%s/%s", root, name);
  for (char *c = path + strlen(root) + 1; (c = strchr(c, '/')); c++) {
    *c = '\0';
    (void)mkdir(path, 0700);
    *c = '/';
  }
  file = fopen(path, "w");
  CHECK(file, "cannot write %s", path);
  if (!file) return;
  (void)fputs(text, file);
  (void)fclose(file);
}

/* what a process in these groups, lines of its file cgroup, may still take */
static void Left(const char *groups, PetscLogDouble expected)
{
  char           path[64];
  PetscLogDouble left;

  Write("cgroup", groups);
  (void)snprintf(path, sizeof path, "%s/cgroup", root);
  left = GramMemoryOfGroup(path, root);
  CHECK(left == expected, "%s: %g bytes left, not %g", groups, left, expected);
}

static PetscErrorCode Groups(void)
{
  PetscFunctionBegin;
  Left("0::/\n", INFINITY);
  Left("0::/not/seen/in/this/container\n", INFINITY);

  /* version 2: the limit of a step, of its job, none; what the job's other steps took counts for the job */
  Write("job/step/memory.max", "max\n");
  Write("job/step/memory.current", "300\n");
  Left("0::/job/step\n", INFINITY);
  Write("job/memory.max", "1000\n");
  Write("job/memory.current", "600\n");
  Left("0::/job/step\n", 400);
  Left("0::/job/step/task\n", 400);
  Write("job/step/memory.max", "500\n");
  Left("0::/job/step\n", 200);
  Write("job/step/memory.stat", "anon 200\ninactive_file 90\n"); /* can be given back */
  Left("0::/job/step\n", 290);
  Write("memory.max", "650\n"); /* a container's own root */
  Write("memory.current", "600\n");
  Left("0::/job/step\n", 50);

  /* version 1, a line a controller, among others and without one of version 2 */
  Write("memory/job/memory.limit_in_bytes", "1000\n");
  Write("memory/job/memory.usage_in_bytes", "960\n");
  Write("memory/memory.limit_in_bytes", "9223372036854771712\n");
  Left("9:cpu:/\n4:memory:/job/step\n3:cpuset:/job\n", 40);
  Left("9:cpu:/\n3:cpuset:/job\n", INFINITY);
  Left("4:memory:/job\n0::/job/step\n", 40);
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode Granted(const char *node, const char *cpu, PetscBool limited, PetscLogDouble least,
                              PetscLogDouble most)
{
  PetscBool      fits;
  PetscLogDouble need, have;

  PetscFunctionBegin;
  if (node) (void)setenv("SLURM_MEM_PER_NODE", node, 1);
  if (cpu) (void)setenv("SLURM_MEM_PER_CPU", cpu, 1);
  PetscCall(GramMemoryFits(PETSC_COMM_WORLD, 1e6, &fits, &need, &have));
  CHECK(fits && (have <= most && have >= least) == limited, "SLURM grants %s, %s a processor: %g bytes",
        node ? node : "-", cpu ? cpu : "-", have);
  PetscCall(GramMemoryFits(PETSC_COMM_WORLD, 2 * most, &fits, &need, &have));
  CHECK(!limited || !fits, "SLURM grants %s, %s a processor: %g bytes fit", node ? node : "-",
        cpu ? cpu : "-", need);
  (void)unsetenv("SLURM_MEM_PER_NODE");
  (void)unsetenv("SLURM_MEM_PER_CPU");
  PetscFunctionReturn(PETSC_SUCCESS);
}

int main(int argc, char **argv)
{
  PetscMPIInt rank;

  PetscCall(PetscInitialize(&argc, &argv, NULL, help));
  PetscCallMPI(MPI_Comm_rank(PETSC_COMM_WORLD, &rank));
  CHECK(mkdtemp(root), "no folder %s", root);
  PetscCall(Groups());
  (void)setenv("SLURM_CPUS_ON_NODE", "4", 1);
  /* 640 MiB of the node; what the ranks have of it now, some 15 MB each, is theirs already */
  PetscCall(Granted("640", NULL, PETSC_TRUE, 200e6, 640 * 1048576.0 - 5e6));
  PetscCall(Granted(NULL, "160", PETSC_TRUE, 200e6, 640 * 1048576.0 - 5e6));
  PetscCall(Granted("0", NULL, PETSC_FALSE, 0, 640 * 1048576.0)); /* all of it */
  PetscCall(Granted(NULL, NULL, PETSC_FALSE, 0, 640 * 1048576.0));
  (void)unsetenv("SLURM_CPUS_ON_NODE");
  PetscCall(Granted(NULL, "160", PETSC_FALSE, 0, 640 * 1048576.0)); /* of nobody knows how many */
  {
    char command[64];

    (void)snprintf(command, sizeof command, "rm -r %s", root);
    CHECK(system(command) == 0, "%s", command);
  }
  PetscCall(PetscFinalize());
  return check_failures != 0;
}
