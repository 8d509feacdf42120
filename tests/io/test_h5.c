static const char help[] = "What is written is read back by another layout; a file that fails leaves the old "
                           "one; one that changes is not read.\n";

#include <sys/stat.h>
#include <unistd.h>

#include "../check.h"
#include "h5.h"

static PetscErrorCode WriteThenRead(MPI_Comm comm, const char *path)
{
  PetscMPIInt rank, size;
  PetscInt    ndims, rows, cols, n, first, one = 4;
  PetscReal  *x, number[4] = {3.5, -1, 0, 7};
  PetscBool   exists;
  char        text[64];
  GramH5      file;

  PetscFunctionBegin;
  PetscCallMPI(MPI_Comm_rank(comm, &rank));
  PetscCallMPI(MPI_Comm_size(comm, &size));
  PetscCall(PetscMalloc1(2 * 101, &x));
  n = rank == size - 1 ? 101 : 0; /* all rows on the last rank */
  for (PetscInt i = 0; i < 2 * 101; i++) x[i] = CheckUniform(1, (uint64_t)i);
  PetscCall(GramH5Create(comm, path, "output.file", 0, &file));
  PetscCall(GramH5WriteRows(file, "group/deep/x", 2, n, 2, x));
  PetscCall(GramH5WriteRows(file, "empty", 2, 0, 2, x));
  PetscCall(GramH5WriteRows(file, "number", 0, 1, 1, number));
  PetscCall(GramH5WriteReals(file, "group", "numbers", 4, number));
  PetscCall(GramH5WriteString(file, "", "text", "Gram\xc3\xa1rye"));
  PetscCall(GramH5Close(&file));

  PetscCall(GramH5OpenRead(comm, path, "data.file", &file));
  PetscCall(GramH5GetShape(file, "group/deep/x", "data.points", PETSC_FALSE, &ndims, &rows, &cols));
  CHECK(ndims == 2 && rows == 101 && cols == 2, "shape %d: %d x %d", (int)ndims, (int)rows, (int)cols);
  first = 101 * rank / size;
  n     = 101 * (rank + 1) / size - first;
  PetscCall(GramH5ReadRows(file, "group/deep/x", "data.points", first, n, x));
  for (PetscInt i = 0; i < 2 * n; i++)
    CHECK(x[i] == CheckUniform(1, (uint64_t)(2 * first + i)), "row %d changed", (int)(first + i / 2));
  PetscCall(GramH5GetShape(file, "empty", "data.points", PETSC_FALSE, &ndims, &rows, &cols));
  CHECK(rows == 0 && cols == 2, "empty is %d x %d", (int)rows, (int)cols);
  PetscCall(GramH5ReadAttribute(file, "group", "numbers", &one, x));
  CHECK(one == 4 && x[0] == 3.5 && x[3] == 7, "numbers changed");
  PetscCall(GramH5ReadString(file, "", "text", text, sizeof text));
  CHECK(!strcmp(text, "Gram\xc3\xa1rye"), "text is '%s'", text);
  PetscCall(GramH5Exists(file, "group/deep", &exists));
  CHECK(exists, "group/deep is missing");
  PetscCall(GramH5Exists(file, "group/shallow/x", &exists));
  CHECK(!exists, "group/shallow/x exists");
  PetscCall(GramH5Close(&file));
  PetscCall(PetscFree(x));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* the same name twice cannot be written: the file must be given up, and the one before kept */
static PetscErrorCode FailThenLook(MPI_Comm comm, const char *path)
{
  PetscErrorCode error;
  PetscReal      x = 1;
  PetscBool      exists;
  char           partial[256];
  GramH5         file;

  PetscFunctionBegin;
  PetscCall(GramH5Create(comm, path, "output.file", 0, &file));
  PetscCall(GramH5WriteRows(file, "twice", 0, 1, 1, &x));
  PetscCall(GramH5WriteRows(file, "twice", 0, 1, 1, &x));
  PetscCall(PetscPushErrorHandler(PetscReturnErrorHandler, NULL));
  error = GramH5Close(&file);
  PetscCall(PetscPopErrorHandler());
  CHECK(error == GRAM_ERR_RESOURCE, "a failed write ended with error %d", (int)error);
  PetscCall(PetscSNPrintf(partial, sizeof partial, "%s.part", path));
  CHECK(access(partial, F_OK), "%s was left behind", partial);
  PetscCall(GramH5OpenRead(comm, path, "data.file", &file));
  PetscCall(GramH5Exists(file, "group/deep/x", &exists));
  CHECK(exists, "the file before is gone");
  PetscCall(GramH5Close(&file));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* the error of one call, unsaid */
#define QUIETLY(error, call)                                         \
  do {                                                               \
    PetscCall(PetscPushErrorHandler(PetscReturnErrorHandler, NULL)); \
    (error) = (call);                                                \
    PetscCall(PetscPopErrorHandler());                               \
  } while (0)

/* An exabyte is refused before anything is written. */
static PetscErrorCode NoRoom(MPI_Comm comm, const char *path)
{
  PetscErrorCode error;
  char           partial[256];
  GramH5         file;

  PetscFunctionBegin;
  PetscCall(PetscSNPrintf(partial, sizeof partial, "%s.part", path));
  QUIETLY(error, GramH5Create(comm, path, "output.file", 1e18, &file));
  CHECK(error == GRAM_ERR_RESOURCE, "an exabyte was taken: error %d", (int)error);
  CHECK(access(partial, F_OK), "%s was left behind", partial);
  QUIETLY(error, GramH5CheckSpace(comm, path, "output.file", 1e18));
  CHECK(error == GRAM_ERR_RESOURCE, "an exabyte would be taken: error %d", (int)error);
  CHECK(!GramH5IsLost(), "a file that was not begun is lost");
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* While one writes it, another is refused and takes nothing away; left alone by a killed run it is taken over. */
static PetscErrorCode TwoWriters(MPI_Comm comm, const char *name)
{
  PetscErrorCode error;
  PetscMPIInt    rank;
  PetscBool      exists;
  char           path[160], partial[256];
  FILE          *left;
  GramH5         first, second;

  PetscFunctionBegin;
  PetscCall(PetscSNPrintf(path, sizeof path, "%s.two", name));
  PetscCall(PetscSNPrintf(partial, sizeof partial, "%s.part", path));
  PetscCallMPI(MPI_Comm_rank(comm, &rank));
  if (!rank) {
    left = fopen(partial, "w");
    CHECK(left && fputs("left by a killed run", left) >= 0 && !fclose(left), "%s cannot be written", partial);
  }
  PetscCallMPI(MPI_Barrier(comm));
  PetscCall(GramH5Create(comm, path, "output.file", 0, &first));
  PetscCall(GramH5WriteInt(first, "", "third", 3));
  QUIETLY(error, GramH5Create(comm, path, "output.file", 0, &second));
  CHECK(error == GRAM_ERR_RESOURCE, "two write %s: error %d", partial, (int)error);
  if (!rank) GramH5RemovePartial(partial);
  PetscCall(GramH5CheckSpace(comm, path, "output.file", 100));
  CHECK(!access(partial, F_OK), "%s was taken from its writer", partial);
  PetscCall(GramH5Close(&first));
  PetscCall(GramH5OpenRead(comm, path, "data.file", &first));
  PetscCall(GramH5Exists(first, "@third", &exists));
  CHECK(exists, "%s is not what the first one wrote", path);
  PetscCall(GramH5Close(&first));
  if (!rank) (void)unlink(path);
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode KeepOld(MPI_Comm comm, const char *path)
{
  PetscMPIInt rank;
  char        old[256];
  PetscBool   exists;
  GramH5      file;

  PetscFunctionBegin;
  PetscCall(PetscSNPrintf(old, sizeof old, "%s.old", path));
  PetscCall(GramH5Create(comm, path, "output.file", 0, &file));
  PetscCall(GramH5WriteInt(file, "", "second", 2));
  PetscCall(GramH5KeepOld(file, old));
  PetscCall(GramH5Close(&file));
  PetscCall(GramH5OpenRead(comm, old, "data.file", &file));
  PetscCall(GramH5Exists(file, "group/deep/x", &exists));
  CHECK(exists, "%s is not what was there", old);
  PetscCall(GramH5Close(&file));
  PetscCallMPI(MPI_Barrier(comm));
  PetscCallMPI(MPI_Comm_rank(comm, &rank));
  if (!rank) CHECK(!rename(old, path), "%s cannot be renamed", old);
  PetscCallMPI(MPI_Barrier(comm));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* cut to its first half after it was opened, and one byte longer: neither is read */
static PetscErrorCode ChangeThenRead(MPI_Comm comm, const char *path)
{
  PetscErrorCode error;
  PetscMPIInt    rank;
  PetscReal      x[202];
  struct stat    st;
  GramH5         file;

  PetscFunctionBegin;
  PetscCallMPI(MPI_Comm_rank(comm, &rank));
  PetscCallMPI(MPI_Barrier(comm));
  CHECK(!stat(path, &st), "%s is gone", path);
  for (int longer = 1; longer >= 0; longer--) {
    PetscCall(GramH5OpenRead(comm, path, "data.file", &file));
    PetscCallMPI(MPI_Barrier(comm));
    if (!rank) CHECK(!truncate(path, longer ? st.st_size + 1 : st.st_size / 2), "%s cannot be cut", path);
    PetscCallMPI(MPI_Barrier(comm));
    QUIETLY(error, GramH5ReadRows(file, "group/deep/x", "data.points", 0, rank ? 0 : 101, x));
    CHECK(error == GRAM_ERR_INPUT, "read after it became %s: error %d", longer ? "longer" : "shorter",
          (int)error);
    QUIETLY(error, GramH5Close(&file));
    CHECK(error == GRAM_ERR_INPUT, "closed after it became %s: error %d", longer ? "longer" : "shorter",
          (int)error);
  }
  PetscFunctionReturn(PETSC_SUCCESS);
}

int main(int argc, char **argv)
{
  char path[128] = "test_h5.h5";

  PetscCall(PetscInitialize(&argc, &argv, NULL, help));
  PetscCall(PetscOptionsGetString(NULL, NULL, "-path", path, sizeof path, NULL));
  PetscCall(WriteThenRead(PETSC_COMM_WORLD, path));
  PetscCall(NoRoom(PETSC_COMM_WORLD, path));
  PetscCall(TwoWriters(PETSC_COMM_WORLD, path));
  PetscCall(KeepOld(PETSC_COMM_WORLD, path));
  PetscCall(FailThenLook(PETSC_COMM_WORLD, path));
  CHECK(GramH5IsLost(), "a failed write is not remembered");
  PetscCall(ChangeThenRead(PETSC_COMM_WORLD, path));
  PetscCallMPI(MPI_Barrier(PETSC_COMM_WORLD));
  (void)unlink(path);
  PetscCall(PetscFinalize());
  return check_failures != 0;
}
