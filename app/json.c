#include <math.h>
#include <stdio.h>

#include "json.h"

static void Add(GramJson *json, const char *name, const char *value, PetscBool quoted)
{
  const char *quote = quoted ? "\"" : "";
  char       *at    = json->text + json->length;
  size_t      left  = sizeof json->text - json->length;
  char        plain[256];
  size_t      n = 0;

  for (const char *v = value; *v && n + 3 < sizeof plain; v++) {
    if (quoted && (*v == '"' || *v == '\\')) plain[n++] = '\\';
    plain[n++] = (char)((unsigned char)*v < ' ' ? ' ' : *v);
  }
  plain[n] = '\0';
  json->length +=
      (size_t)snprintf(at, left, "%s\"%s\": %s%s%s", json->length ? ", " : "", name, quote, plain, quote);
}

void GramJsonAddText(GramJson *json, const char *name, const char *value)
{
  Add(json, name, value, PETSC_TRUE);
}

void GramJsonAddBool(GramJson *json, const char *name, PetscBool value)
{
  Add(json, name, value ? "true" : "false", PETSC_FALSE);
}

void GramJsonAddNumber(GramJson *json, const char *name, PetscReal value)
{
  char text[64];

  (void)snprintf(text, sizeof text, value == floor(value) && fabs(value) < 1e15 ? "%.0f" : "%.9g", value);
  Add(json, name, PetscIsInfOrNanReal(value) ? "null" : text, PETSC_FALSE);
}

PetscErrorCode GramJsonPrint(MPI_Comm comm, const GramJson *json)
{
  PetscFunctionBegin;
  PetscCall(PetscPrintf(comm, "{%s}\n", json->text));
  (void)fflush(stdout);
  PetscFunctionReturn(PETSC_SUCCESS);
}
