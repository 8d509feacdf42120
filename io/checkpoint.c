#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "checkpoint.h"
#include "h5.h"

#define FORMAT 1 /* of the file */

PetscErrorCode GramCheckpointClear(GramCheckpoint *c)
{
  PetscFunctionBegin;
  PetscCall(PetscFree2(c->x, c->p));
  PetscCall(PetscFree2(c->rz, c->iterations));
  PetscCall(PetscFree(c->history));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* Each number by its place and its bits, so that order does not matter. */
static uint64_t Mix(uint64_t place, PetscReal number)
{
  uint64_t bits;

  memcpy(&bits, &number, sizeof bits);
  return GramHash(bits, place);
}

PetscErrorCode GramChecksum(MPI_Comm comm, PetscInt n_local, PetscInt width, const PetscReal *x,
                            uint64_t *sum)
{
  PetscMPIInt rank;
  PetscInt64  mine = n_local, first = 0;

  PetscFunctionBegin;
  PetscCallMPI(MPI_Comm_rank(comm, &rank));
  PetscCallMPI(MPI_Exscan(&mine, &first, 1, MPIU_INT64, MPI_SUM, comm));
  if (!rank) first = 0;
  *sum = 0;
  for (size_t i = 0; i < (size_t)n_local * (size_t)width; i++)
    *sum += Mix((uint64_t)first * (uint64_t)width + i, x[i]);
  PetscCallMPI(MPI_Allreduce(MPI_IN_PLACE, sum, 1, MPI_UINT64_T, MPI_SUM, comm));
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode Sum(const GramCheckpoint *c, char text[32])
{
  uint64_t    x, p, few;
  PetscMPIInt rank;

  PetscFunctionBegin;
  PetscCallMPI(MPI_Comm_rank(c->comm, &rank));
  PetscCall(GramChecksum(c->comm, c->n_local, c->numbers * c->q, c->x, &x));
  PetscCall(GramChecksum(c->comm, c->n_local, c->numbers * c->q, c->p, &p));
  PetscCall(GramChecksum(c->comm, rank ? 0 : c->n_history, 1, c->history, &few));
  for (PetscInt r = 0; r < c->q; r++)
    few += Mix((uint64_t)r, c->rz[r]) + 3 * Mix((uint64_t)r, c->iterations[r]);
  few += (uint64_t)c->total;
  for (int k = 0; k < 4; k++) few += ((uint64_t)k + 2) * (uint64_t)c->growth[k];
  (void)snprintf(text, 32, "%016llx", (unsigned long long)(x + 5 * p + 7 * few));
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramCheckpointWrite(const char *path, const GramCheckpoint *c)
{
  PetscMPIInt rank;
  GramH5      file;
  char        sum[32], old[PETSC_MAX_PATH_LEN + 8];

  PetscFunctionBegin;
  PetscCallMPI(MPI_Comm_rank(c->comm, &rank));
  PetscCall(Sum(c, sum));
  PetscCall(GramH5Create(c->comm, path, "checkpoint.file",
                         16.0 * (PetscLogDouble)c->n * (PetscLogDouble)(c->numbers * c->q) +
                             8.0 * (PetscLogDouble)c->n_history,
                         &file));
  PetscCall(GramH5WriteRows(file, "x", 2, c->n_local, c->numbers * c->q, c->x));
  PetscCall(GramH5WriteRows(file, "p", 2, c->n_local, c->numbers * c->q, c->p));
  PetscCall(GramH5WriteRows(file, "rz", 1, rank ? 0 : c->q, 1, c->rz));
  PetscCall(GramH5WriteRows(file, "iterations", 1, rank ? 0 : c->q, 1, c->iterations));
  PetscCall(GramH5WriteRows(file, "history", 1, rank ? 0 : c->n_history, 1, c->history));
  PetscCall(GramH5WriteInt(file, "checkpoint", "format", FORMAT));
  PetscCall(GramH5WriteString(file, "checkpoint", "data", c->data));
  PetscCall(GramH5WriteString(file, "checkpoint", "kernel", c->kernel));
  PetscCall(GramH5WriteString(file, "checkpoint", "method", c->method));
  PetscCall(GramH5WriteString(file, "checkpoint", "sum", sum));
  PetscCall(GramH5WriteInt(file, "checkpoint", "total", c->total));
  for (int k = 0; k < 4; k++) {
    char name[16];

    PetscCall(PetscSNPrintf(name, sizeof name, "growth%d", k));
    PetscCall(GramH5WriteInt(file, "checkpoint", name, c->growth[k]));
  }
  PetscCall(PetscSNPrintf(old, sizeof old, "%s.old", path));
  PetscCall(GramH5KeepOld(file, old));
  PetscCall(GramH5Close(&file));
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode IntRead(GramH5 file, const char *name, PetscInt *value)
{
  PetscInt  one = 1;
  PetscReal number;

  PetscFunctionBegin;
  PetscCall(GramH5ReadAttribute(file, "checkpoint", name, &one, &number));
  *value = (PetscInt)number;
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* One file, whatever is in it: an error where it is damaged, differs "" where it is of this problem. */
static PetscErrorCode ReadOne(const char *path, GramCheckpoint *c, char differs[], size_t size)
{
  GramH5         file;
  PetscInt       ndims, n, width, format;
  const PetscInt q    = c->q;
  PetscInt64     mine = c->n_local, first = 0;
  PetscMPIInt    rank;
  char           text[512], sum[32];

  PetscFunctionBegin;
  PetscCall(GramH5OpenRead(c->comm, path, "checkpoint.file", &file));
  PetscCall(IntRead(file, "format", &format));
  PetscCall(GramH5GetShape(file, "x", "checkpoint.file", PETSC_FALSE, &ndims, &n, &width));
  differs[0] = '\0';
  PetscCall(GramH5ReadString(file, "checkpoint", "data", text, sizeof text));
  if (format != FORMAT || n != c->n || width != c->numbers * q || strcmp(text, c->data) != 0)
    PetscCall(PetscStrncpy(differs, "it is of other data", size));
  PetscCall(GramH5ReadString(file, "checkpoint", "kernel", text, sizeof text));
  if (!differs[0] && strcmp(text, c->kernel) != 0)
    PetscCall(PetscSNPrintf(differs, size, "it is of the %s", text));
  if (!differs[0]) {
    PetscCallMPI(MPI_Comm_rank(c->comm, &rank));
    PetscCallMPI(MPI_Exscan(&mine, &first, 1, MPIU_INT64, MPI_SUM, c->comm));
    if (!rank) first = 0;
    PetscCall(GramH5GetShape(file, "history", "checkpoint.file", PETSC_FALSE, &ndims, &c->n_history, &n));
    PetscCall(PetscMalloc2(GramAt(c->n_local, width, 0), &c->x, GramAt(c->n_local, width, 0), &c->p));
    PetscCall(PetscMalloc2(q, &c->rz, q, &c->iterations));
    PetscCall(PetscMalloc1(c->n_history, &c->history));
    PetscCall(GramH5ReadRows(file, "x", "checkpoint.file", (PetscInt)first, c->n_local, c->x));
    PetscCall(GramH5ReadRows(file, "p", "checkpoint.file", (PetscInt)first, c->n_local, c->p));
    PetscCall(GramH5ReadRows(file, "rz", "checkpoint.file", 0, q, c->rz));
    PetscCall(GramH5ReadRows(file, "iterations", "checkpoint.file", 0, q, c->iterations));
    PetscCall(GramH5ReadRows(file, "history", "checkpoint.file", 0, c->n_history, c->history));
    PetscCall(GramH5ReadString(file, "checkpoint", "method", c->method, sizeof c->method));
    PetscCall(IntRead(file, "total", &c->total));
    for (int k = 0; k < 4; k++) {
      char name[16];

      PetscCall(PetscSNPrintf(name, sizeof name, "growth%d", k));
      PetscCall(IntRead(file, name, c->growth + k));
    }
    PetscCall(GramH5ReadString(file, "checkpoint", "sum", text, sizeof text));
    PetscCall(Sum(c, sum));
    if (strcmp(text, sum) != 0)
      PetscCall(PetscStrncpy(differs, "it is damaged: its numbers are not those written", size));
  }
  PetscCall(GramH5Close(&file));
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramCheckpointRead(const char *path, GramCheckpoint *c, PetscBool *found, char what[],
                                  size_t size)
{
  PetscMPIInt rank;

  PetscFunctionBegin;
  PetscCallMPI(MPI_Comm_rank(c->comm, &rank));
  *found  = PETSC_FALSE;
  what[0] = '\0';
  for (int generation = 0; generation < 2 && !*found; generation++) {
    char           name[PETSC_MAX_PATH_LEN], differs[600] = "";
    int            exists = 0;
    PetscErrorCode error;

    PetscCall(PetscSNPrintf(name, sizeof name, "%s%s", path, generation ? ".old" : ""));
    if (!rank) exists = !access(name, F_OK);
    PetscCallMPI(MPI_Bcast(&exists, 1, MPI_INT, 0, c->comm));
    if (!exists) continue;
    PetscCall(PetscPushErrorHandler(PetscReturnErrorHandler, NULL)); /* a damaged file is no reason to end */
    error = ReadOne(name, c, differs, sizeof differs);
    PetscCall(PetscPopErrorHandler());
    if (error) PetscCall(PetscStrncpy(differs, "it is damaged", sizeof differs));
    *found = (PetscBool)!differs[0];
    if (*found) PetscCall(PetscStrncpy(what, name, size));
    else {
      if (!what[0]) PetscCall(PetscSNPrintf(what, size, "%s: %s", name, differs));
      PetscCall(GramCheckpointClear(c));
    }
  }
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramCheckpointRemove(MPI_Comm comm, const char *path)
{
  static const char *const ends[] = {"", ".old"};

  PetscMPIInt rank;
  char        name[PETSC_MAX_PATH_LEN + 8];

  PetscFunctionBegin;
  PetscCallMPI(MPI_Comm_rank(comm, &rank));
  for (size_t i = 0; !rank && i < PETSC_STATIC_ARRAY_LENGTH(ends); i++) {
    PetscCall(PetscSNPrintf(name, sizeof name, "%s%s", path, ends[i]));
    (void)unlink(name);
  }
  PetscCall(PetscSNPrintf(name, sizeof name, "%s.part", path));
  if (!rank) GramH5RemovePartial(name); /* of a run that was killed */
  PetscFunctionReturn(PETSC_SUCCESS);
}
