#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>
#if defined(__GLIBC__)
  #include <malloc.h>
#endif

#include "memory.h"

/* one number in a file, or fallback */
static PetscLogDouble NumberIn(const char *path, PetscLogDouble fallback)
{
  FILE  *file = fopen(path, "r");
  double number;

  if (file && fscanf(file, "%lf", &number) == 1) fallback = number;
  if (file) (void)fclose(file);
  return fallback;
}

/* the number behind a name at the beginning of a line, or fallback */
static PetscLogDouble NumberOf(const char *path, const char *name, PetscLogDouble fallback)
{
  char  line[256];
  FILE *file = fopen(path, "r");

  while (file && fgets(line, sizeof line, file)) {
    if (!strncmp(line, name, strlen(name))) fallback = strtod(line + strlen(name), NULL);
  }
  if (file) (void)fclose(file);
  return fallback;
}

/* What a control group leaves, and those that it is in, whose limits hold for all below them: the least. Pages of files
   that nobody uses count as used, but are given back. group is cut short. */
static PetscLogDouble BytesLeft(const char *mount, char *group, const char *limit, const char *used)
{
  PetscLogDouble least = INFINITY, most;
  char           path[2560], *end;

  do {
    (void)snprintf(path, sizeof path, "%s%s/%s", mount, group, limit);
    most = NumberIn(path, INFINITY); /* "max" is no number */
    (void)snprintf(path, sizeof path, "%s%s/%s", mount, group, used);
    most -= NumberIn(path, 0);
    (void)snprintf(path, sizeof path, "%s%s/memory.stat", mount, group);
    least = PetscMin(least, most + NumberOf(path, "inactive_file ", 0));
    end   = strrchr(group, '/');
    if (end) *end = '\0';
  } while (end);
  return least;
}

PetscLogDouble GramMemoryOfGroup(const char *groups, const char *mount)
{
  char           line[2048], first[2304];
  FILE          *file  = fopen(groups, "r");
  PetscLogDouble least = INFINITY, left;

  while (file && fgets(line, sizeof line, file)) { /* 0::/group, or N:controllers:/group */
    char *controllers = strchr(line, ':'), *group = controllers ? strchr(controllers + 1, ':') : NULL;

    if (!group) continue;
    *group++                    = '\0';
    group[strcspn(group, "\n")] = '\0';
    if (!controllers[1]) left = BytesLeft(mount, group, "memory.max", "memory.current");
    else if (!strcmp(controllers, ":memory")) {
      (void)snprintf(first, sizeof first, "%s/memory", mount);
      left = BytesLeft(first, group, "memory.limit_in_bytes", "memory.usage_in_bytes");
    } else continue;
    least = PetscMin(least, left);
  }
  if (file) (void)fclose(file);
  return least;
}

/* What SLURM lets a job take of this node, which it may enforce without a control group: --mem, or --mem-per-cpu times the
   processors; in MiB, 0 is all of the node. */
static PetscLogDouble BytesOfSlurm(void)
{
  const char *node = getenv("SLURM_MEM_PER_NODE"), *cpu = getenv("SLURM_MEM_PER_CPU"),
             *cpus   = getenv("SLURM_CPUS_ON_NODE");
  PetscLogDouble mib = node ? atof(node) : 0;

  if (mib <= 0 && cpu && cpus) mib = atof(cpu) * atof(cpus);
  return mib > 0 ? 1048576 * mib : INFINITY;
}

/* bytes of this process in memory now */
static PetscLogDouble BytesResident(void)
{
  FILE  *file = fopen("/proc/self/statm", "r");
  double pages[2];
  int    found = file ? fscanf(file, "%lf %lf", pages, pages + 1) : 0;

  if (file) (void)fclose(file);
  return found == 2 ? pages[1] * (PetscLogDouble)sysconf(_SC_PAGESIZE) : 0;
}

/* Bytes this node can still give a job that has some of it, and who says so: the kernel's own estimate, or all of the
   memory where there is none; what limits leave. */
static PetscLogDouble BytesAvailable(PetscLogDouble resident, PetscInt *whose)
{
  const PetscLogDouble all = (PetscLogDouble)sysconf(_SC_PHYS_PAGES) * (PetscLogDouble)sysconf(_SC_PAGESIZE);
  const PetscLogDouble bytes[] = {NumberOf("/proc/meminfo", "MemAvailable:", all / 1024) * 1024,
                                  GramMemoryOfGroup("/proc/self/cgroup", "/sys/fs/cgroup"),
                                  BytesOfSlurm() - resident};

  *whose = 0;
  for (PetscInt i = 1; i < 3; i++) *whose = bytes[i] < bytes[*whose] ? i : *whose;
  return PetscMax(bytes[*whose], 0);
}

/* GramMemoryFits(), and who limits the node where it is tightest */
static PetscErrorCode Tightest(MPI_Comm comm, PetscLogDouble bytes, PetscLogDouble *need,
                               PetscLogDouble *have, const char **whose)
{
  static const char *const names[] = {"available", "available in its control group",
                                      "left of what the job has from SLURM"};
  struct {
    double fraction;
    int    rank;
  } mine, worst;
  MPI_Comm       node;
  PetscInt       limit;
  PetscLogDouble numbers[3] = {bytes, BytesResident()};

  PetscFunctionBegin;
  PetscCallMPI(MPI_Comm_split_type(comm, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &node));
  PetscCallMPI(MPI_Allreduce(MPI_IN_PLACE, numbers, 2, MPI_DOUBLE, MPI_SUM, node));
  PetscCallMPI(MPI_Comm_free(&node));
  numbers[1]    = BytesAvailable(numbers[1], &limit);
  numbers[2]    = (PetscLogDouble)limit;
  mine.fraction = numbers[0] / PetscMax(numbers[1], 1);
  PetscCallMPI(MPI_Comm_rank(comm, &mine.rank));
  PetscCallMPI(MPI_Allreduce(&mine, &worst, 1, MPI_DOUBLE_INT, MPI_MAXLOC, comm));
  PetscCallMPI(MPI_Bcast(numbers, 3, MPI_DOUBLE, worst.rank, comm));
  *need  = numbers[0];
  *have  = numbers[1];
  *whose = names[(PetscInt)numbers[2]];
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramMemoryFits(MPI_Comm comm, PetscLogDouble bytes, PetscBool *fits, PetscLogDouble *need,
                              PetscLogDouble *have)
{
  const char *whose;

  PetscFunctionBegin;
  PetscCall(Tightest(comm, bytes, need, have, &whose));
  *fits = (PetscBool)(*need <= *have);
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramMemoryCheck(MPI_Comm comm, PetscInt n, PetscLogDouble bytes, const char *what,
                               PetscLogDouble *peak, char line[], size_t size)
{
  PetscLogDouble need, have, mine = bytes + BytesResident(), sum, most;
  const char    *whose;

  PetscFunctionBegin;
  PetscCall(Tightest(comm, bytes, &need, &have, &whose));
  GramCheckResource(need <= have, comm,
                    "memory: %" PetscInt_FMT " points, %s, need %.3g GB on a node that has %.3g GB %s", n,
                    what, need * 1e-9, have * 1e-9, whose);
  PetscCallMPI(MPI_Allreduce(&mine, &sum, 1, MPI_DOUBLE, MPI_SUM, comm));
  PetscCallMPI(MPI_Allreduce(&mine, &most, 1, MPI_DOUBLE, MPI_MAX, comm));
  if (peak) *peak = sum;
  if (line)
    PetscCall(PetscSNPrintf(line, size, "%s, peak %.3g GB, %.3g GB a rank; %.3g GB available", what,
                            sum * 1e-9, most * 1e-9, have * 1e-9));
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramMemoryCheckDevice(MPI_Comm comm, PetscLogDouble need, PetscLogDouble have,
                                     const char *device)
{
  struct {
    double lacks;
    int    rank;
  } mine, worst;
  PetscLogDouble bytes[2] = {need, have};
  char           name[128];

  PetscFunctionBegin;
  mine.lacks = need - have;
  PetscCallMPI(MPI_Comm_rank(comm, &mine.rank));
  PetscCallMPI(MPI_Allreduce(&mine, &worst, 1, MPI_DOUBLE_INT, MPI_MAXLOC, comm));
  if (worst.lacks <= 0) PetscFunctionReturn(PETSC_SUCCESS);
  PetscCall(PetscStrncpy(name, device, sizeof name));
  PetscCallMPI(MPI_Bcast(bytes, 2, MPI_DOUBLE, worst.rank, comm));
  PetscCallMPI(MPI_Bcast(name, sizeof name, MPI_CHAR, worst.rank, comm));
  GramCheckResource(PETSC_FALSE, comm, "device memory: the product needs %.3g GB, a rank has %.3g GB of %s",
                    bytes[0] * 1e-9, bytes[1] * 1e-9, name);
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramMemoryPeak(MPI_Comm comm, PetscLogDouble *bytes)
{
  struct rusage  usage;
  PetscLogDouble mine = getrusage(RUSAGE_SELF, &usage) ? 0 : 1024.0 * (PetscLogDouble)usage.ru_maxrss;

  PetscFunctionBegin; /* ru_maxrss is also that of the process which started this one */
  mine = 1024 * NumberOf("/proc/self/status", "VmHWM:", mine / 1024);
  PetscCallMPI(MPI_Allreduce(&mine, bytes, 1, MPI_DOUBLE, MPI_SUM, comm));
  PetscFunctionReturn(PETSC_SUCCESS);
}

void GramMemoryTrim(void)
{
#if defined(__GLIBC__)
  (void)malloc_trim(0);
#endif
}

void GramMemoryPeakReset(void)
{
  FILE *file;

  GramMemoryTrim(); /* what was freed is no part of the next peak */
  file = fopen("/proc/self/clear_refs", "w");
  if (file) (void)fputs("5", file); /* proc(5): resets VmHWM */
  if (file) (void)fclose(file);
}
