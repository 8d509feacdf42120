#include <ctype.h>
#include <errno.h>
#include <libgen.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config.h"
#include "design.h"
#if defined(GRAM_HAVE_YAML)
  #include <yaml.h>
#endif

typedef enum { KEY_BOOL, KEY_INT, KEY_INTS, KEY_REAL, KEY_REALS, KEY_TEXT, KEY_PATH } KeyType;

/* Every key of every verb. only: the values this version can serve, NULL for all; verbs that are to come keep
   their keys, so that one config can serve several verbs. */
static const struct {
  const char *name;
  KeyType     type;
  const char *only;
} keys[] = {
    {"data_file", KEY_PATH, NULL},
    {"data_points", KEY_TEXT, NULL},
    {"data_values", KEY_TEXT, NULL},
    {"data_gradients", KEY_TEXT, NULL},
    {"data_index", KEY_TEXT, NULL},
    {"data_limit", KEY_INT, NULL},
    {"data_sphere", KEY_BOOL, NULL},
    {"data_standardize", KEY_TEXT, NULL},
    {"target_file", KEY_PATH, NULL},
    {"target_points", KEY_TEXT, NULL},
    {"target_values", KEY_TEXT, NULL},
    {"target_index", KEY_TEXT, NULL},
    {"target_limit", KEY_INT, NULL},
    {"target_gradient", KEY_BOOL, NULL},
    {"target_variance", KEY_BOOL, NULL},
    {"target_grid", KEY_INTS, NULL},
    {"target_chunk", KEY_INT, NULL},
    {"kernel_type", KEY_TEXT, NULL},
    {"kernel_nu", KEY_REAL, NULL},
    {"kernel_beta", KEY_REAL, NULL},
    {"kernel_length_scale", KEY_REALS, NULL},
    {"kernel_amplitude", KEY_REAL, NULL},
    {"ridge_alpha", KEY_REAL, NULL},
    {"ridge_alpha_gradient", KEY_REAL, NULL},
    {"tail_degree", KEY_INT, NULL},
    {"product_method", KEY_TEXT, "direct"},
    {"product_grid", KEY_TEXT, NULL},
    {"product_symmetric", KEY_TEXT, "auto, true, false, yes, no, on, off, 0, 1"},
    {"product_reproducible", KEY_BOOL, NULL},
    {"product_precision", KEY_TEXT, NULL},
    {"product_tolerance", KEY_REAL, NULL},
    {"backend", KEY_TEXT, NULL},
    {"solve_method", KEY_TEXT, NULL},
    {"ksp_type", KEY_TEXT, NULL}, /* PETSc's, but its own message about a bad value would not name them */
    {"ksp_rtol", KEY_REAL, NULL},
    {"ksp_atol", KEY_REAL, NULL},
    {"ksp_max_it", KEY_INT, NULL},
    {"pc_type", KEY_TEXT, NULL},
    {"output_file", KEY_PATH, NULL},
    {"output_loo", KEY_BOOL, NULL},
    {"output_vtk", KEY_PATH, "none"},
    {"output_overwrite", KEY_BOOL, NULL},
    {"checkpoint_file", KEY_PATH, NULL},
    {"checkpoint_interval", KEY_TEXT, NULL},
    {"checkpoint_restart", KEY_TEXT, "auto, false, no, off, 0"},
    {"model_file", KEY_PATH, NULL},
    {"monitor", KEY_TEXT, "auto, true, false, yes, no, on, off, 0, 1"},
    {"verb", KEY_TEXT, NULL},
    {"tune_method", KEY_TEXT, NULL},
    {"tune_parameters", KEY_TEXT, NULL},
    {"tune_bounds_length_scale", KEY_REALS, NULL},
    {"tune_bounds_alpha", KEY_REALS, NULL},
    {"tune_bounds_alpha_gradient", KEY_REALS, NULL},
    {"tune_bounds_nu", KEY_REALS, NULL},
    {"tune_bounds_amplitude", KEY_REALS, NULL},
    {"tune_optimizer", KEY_TEXT, NULL},
    {"tune_population", KEY_INT, NULL},
    {"tune_generations", KEY_INT, NULL},
    {"tune_seed", KEY_INT, NULL},
    {"tune_max_condition", KEY_REAL, NULL},
    {"nodes_method", KEY_TEXT, NULL},
    {"nodes_size", KEY_INT, NULL},
    {"nodes_dim", KEY_INT, NULL},
    {"nodes_lower", KEY_REALS, NULL},
    {"nodes_upper", KEY_REALS, NULL},
    {"nodes_seed", KEY_INT, NULL},
    {"nodes_start", KEY_PATH, NULL},
    {"nodes_energy", KEY_TEXT, NULL},
    {"nodes_field", KEY_TEXT, NULL},
    {"nodes_sweep", KEY_TEXT, NULL},
    {"nodes_step", KEY_TEXT, NULL},
    {"nodes_gap", KEY_REAL, NULL},
    {"nodes_max_sweeps", KEY_INT, NULL},
    {"nodes_tolerance", KEY_REAL, NULL},
    {"nodes_barrier_power", KEY_REAL, NULL},
    {"nodes_barrier_margin", KEY_REAL, NULL},
    {"nodes_blocks", KEY_INT, NULL},
    {"nodes_candidates", KEY_INTS, NULL},
    {"nodes_measure", KEY_TEXT, NULL},
    {"nodes_samples", KEY_PATH, NULL},
    {"nodes_polish", KEY_INT, NULL},
    {"weights_method", KEY_TEXT, NULL},
    {"weights_sum_to_one", KEY_BOOL, NULL},
    {"bench_kind", KEY_TEXT, NULL},
    {"bench_gradients", KEY_BOOL, NULL},
    {"bench_sizes", KEY_INTS, NULL},
    {"bench_dims", KEY_INTS, NULL},
    {"bench_kernels", KEY_TEXT, NULL},
    {"bench_precisions", KEY_TEXT, NULL},
    {"bench_rhs", KEY_INTS, NULL},
    {"bench_symmetric", KEY_TEXT, NULL},
    {"bench_repeats", KEY_INT, NULL},
};

/* PETSc's own options: by how they begin, and whole names. */
static const char *const petsc_groups[] = {
    "ksp_",    "pc_",     "tao_",        "mat_",        "vec_",  "log_",     "options_",
    "sub_",    "mg_",     "fieldsplit_", "is_",         "sf_",   "dm_",      "viewer_",
    "malloc_", "info_",   "citations_",  "petsc_",      "cuda_", "device_",  "use_gpu_",
    "blas_",   "random_", "matmatmult_", "matproduct_", "draw_", "on_error_"};
static const char *const petsc_names[] = {"malloc",
                                          "info",
                                          "help",
                                          "h",
                                          "v",
                                          "version",
                                          "citations",
                                          "error_output_stdout",
                                          "error_output_none",
                                          "fp_trap",
                                          "memory_view",
                                          "objects_dump",
                                          "no_signal_handler",
                                          "debug_terminal",
                                          "start_in_debugger",
                                          "stop_for_debugger",
                                          "get_total_flops",
                                          "check_pointer_intensity",
                                          "checkstack",
                                          "checkfunctionlist",
                                          "skip_petscrc",
                                          "nox"};

/* Those of them that PetscFinalize() reads, so that they are never left over. */
static const char *const petsc_late[] = {"log_",   "options_", "malloc_", "info_",    "citations_",
                                         "petsc_", "cuda_",    "device_", "use_gpu_", "on_error_"};

static PetscBool StartsLike(const char *name, size_t n, const char *const groups[])
{
  for (size_t i = 0; i < n; i++) {
    if (!strncasecmp(name, groups[i], strlen(groups[i]))) return PETSC_TRUE;
  }
  return PETSC_FALSE;
}

static PetscBool IsPetscName(const char *name)
{
  for (size_t i = 0; i < PETSC_STATIC_ARRAY_LENGTH(petsc_names); i++) {
    if (!strcasecmp(name, petsc_names[i])) return PETSC_TRUE;
  }
  return PETSC_FALSE;
}

/* the command line, before PETSc */

static PetscBool IsOption(const char *arg)
{
  return (PetscBool)(arg[0] == '-' && isalpha((unsigned char)arg[1]));
}

void GramCommandParse(int argc, char **argv, GramCommand *c, char problem[], size_t size)
{
  int i = 2;

  problem[0] = '\0';
  *c         = (GramCommand){.verb = argc > 1 ? argv[1] : NULL};
  for (; i < argc && !IsOption(argv[i]); i++) {
    if (c->n_configs == GRAM_MAX_CONFIGS) {
      (void)snprintf(problem, size, "more than %d configs", GRAM_MAX_CONFIGS);
      return;
    }
    c->configs[c->n_configs++] = argv[i];
  }
  c->n_args = argc - i;
  c->args   = argv + i;
  for (; i < argc; i++) { /* -key value, or -flag: what follows a value must be a key again */
    if (!IsOption(argv[i])) {
      (void)snprintf(
          problem, size,
          "argument '%s' is neither a config (these come before the options) nor the value of a key",
          argv[i]);
      return;
    }
    if (i + 1 < argc && !IsOption(argv[i + 1])) i++;
  }
}

char **GramCommandPetscArgs(const GramCommand *c, int *argc)
{
  char **argv = (char **)malloc((size_t)(2 + 2 * c->n_configs + c->n_args) * sizeof *argv);
  int    n    = 0;

  argv[n++] = (char *)"gramarye";
  for (int i = 0; i < c->n_configs; i++) {
    argv[n++] = (char *)"-options_file_yaml";
    argv[n++] = (char *)c->configs[i];
  }
  for (int i = 0; i < c->n_args; i++) argv[n++] = c->args[i];
  argv[n] = NULL;
  *argc   = n;
  return argv;
}

#if defined(GRAM_HAVE_YAML)
/* Keys that appear twice, and lists of anything but words and numbers: PETSc would take them silently. */
static void InspectNode(yaml_document_t *document, const char *path, int index, char problem[], size_t size)
{
  yaml_node_t *node = yaml_document_get_node(document, index);

  if (!node || problem[0]) return;
  if (node->type == YAML_SEQUENCE_NODE) {
    for (yaml_node_item_t *item = node->data.sequence.items.start; item < node->data.sequence.items.top;
         item++) {
      yaml_node_t *child = yaml_document_get_node(document, *item);

      if (child->type == YAML_SCALAR_NODE || problem[0]) continue;
      (void)snprintf(problem, size, "%s:%zu: a list holds numbers or words, not lists or keys", path,
                     child->start_mark.line + 1);
    }
  }
  if (node->type != YAML_MAPPING_NODE) return;
  for (yaml_node_pair_t *pair = node->data.mapping.pairs.start; pair < node->data.mapping.pairs.top; pair++) {
    yaml_node_t *key = yaml_document_get_node(document, pair->key);

    for (yaml_node_pair_t *earlier = node->data.mapping.pairs.start; earlier < pair; earlier++) {
      yaml_node_t *other = yaml_document_get_node(document, earlier->key);

      if (problem[0] || key->type != YAML_SCALAR_NODE || other->type != YAML_SCALAR_NODE) continue;
      if (strcasecmp((char *)key->data.scalar.value, (char *)other->data.scalar.value)) continue;
      (void)snprintf(problem, size, "%s:%zu: key '%s' appears twice (first in line %zu)", path,
                     key->start_mark.line + 1, (char *)key->data.scalar.value, other->start_mark.line + 1);
    }
    InspectNode(document, path, pair->value, problem, size);
  }
}

static void InspectYAML(const char *path, FILE *file, char problem[], size_t size)
{
  yaml_parser_t   parser;
  yaml_document_t document;
  yaml_node_t    *root;

  (void)yaml_parser_initialize(&parser);
  yaml_parser_set_input_file(&parser, file);
  if (!yaml_parser_load(&parser, &document)) {
    (void)snprintf(problem, size, "%s:%zu: %s", path, parser.problem_mark.line + 1,
                   parser.problem ? parser.problem : "not YAML");
  } else {
    root = yaml_document_get_root_node(&document);
    if (root && root->type != YAML_MAPPING_NODE)
      (void)snprintf(problem, size, "%s:1: a config holds 'key: value' lines", path);
    else InspectNode(&document, path, 1, problem, size);
    yaml_document_delete(&document);
  }
  yaml_parser_delete(&parser);
}
#else
static void InspectYAML(const char *path, FILE *file, char problem[], size_t size)
{
  (void)path;
  (void)file;
  (void)problem;
  (void)size;
}
#endif

void GramConfigsInspect(MPI_Comm comm, const GramCommand *c, char problem[], size_t size)
{
  int rank;

  (void)MPI_Comm_rank(comm, &rank);
  problem[0] = '\0';
  for (int i = 0; rank == 0 && i < c->n_configs && !problem[0]; i++) {
    struct stat st;
    FILE       *file = fopen(c->configs[i], "r");

    if (!file) (void)snprintf(problem, size, "config '%s': %s", c->configs[i], strerror(errno));
    else if (!stat(c->configs[i], &st) && S_ISDIR(st.st_mode))
      (void)snprintf(problem, size, "config '%s' is a folder", c->configs[i]);
    else InspectYAML(c->configs[i], file, problem, size);
    if (file) (void)fclose(file);
  }
  (void)MPI_Bcast(problem, (int)size, MPI_CHAR, 0, comm);
}

/* kernel_length_scale -> kernel.length_scale: as it stands in a config */
static void Dotted(const char *name, char dotted[], size_t size)
{
  char *first;

  (void)snprintf(dotted, size, "%s", name);
  first = strchr(dotted, '_');
  if (first) *first = '.';
}

/* Levenshtein's edit distance, one row at a time; names are short */
static int Distance(const char *a, const char *b)
{
  const int n = (int)strlen(a), m = (int)strlen(b);
  int       row[128];

  if (m >= 128) return 1000;
  for (int j = 0; j <= m; j++) row[j] = j;
  for (int i = 1; i <= n; i++) {
    int diagonal = row[0];

    row[0] = i;
    for (int j = 1; j <= m; j++) {
      const int above  = row[j],
                change = diagonal + (tolower((unsigned char)a[i - 1]) != tolower((unsigned char)b[j - 1]));

      row[j]   = PetscMin(change, PetscMin(above, row[j - 1]) + 1);
      diagonal = above;
    }
  }
  return row[m];
}

/* NULL when nothing is near, or only what this version would refuse */
static const char *NearestKey(const char *name)
{
  const char *best  = NULL;
  int         least = PetscMax(1, (int)strlen(name) / 3) + 1;

  for (size_t i = 0; i < PETSC_STATIC_ARRAY_LENGTH(keys); i++) {
    const char *word = strchr(keys[i].name, '_');
    int         d    = Distance(name, keys[i].name);

    if (word) d = PetscMin(d, Distance(name, word + 1) + 1); /* the group forgotten */
    if (d >= least) continue;
    least = d;
    best  = keys[i].name;
  }
  return best;
}

static PetscBool IsKey(const char *name)
{
  for (size_t i = 0; i < PETSC_STATIC_ARRAY_LENGTH(keys); i++) {
    if (!strcasecmp(keys[i].name, name)) return PETSC_TRUE;
  }
  return PETSC_FALSE;
}

/* a group of keys, given as if it were a key */
static PetscBool IsGroup(const char *name)
{
  const size_t length = strlen(name);

  for (size_t i = 0; i < PETSC_STATIC_ARRAY_LENGTH(keys); i++) {
    if (!strncasecmp(keys[i].name, name, length) && keys[i].name[length] == '_') return PETSC_TRUE;
  }
  return PETSC_FALSE;
}

static PetscErrorCode RefuseUnknown(MPI_Comm comm, const char *name, const char *dotted)
{
  const char *near         = NearestKey(name);
  char        nearest[128] = "";

  PetscFunctionBegin;
  GramCheckInput(!IsGroup(name), comm, "unknown key '%s': it is a group, its keys are indented below it",
                 name);
  GramCheckInput(!strchr(name, '.'), comm,
                 "unknown key '%s': in a config a dot is written as a colon and indentation", name);
  if (near) Dotted(near, nearest, sizeof nearest);
  GramCheckInput(!near, comm, "unknown key '%s'; did you mean '%s'?", dotted, nearest);
  GramCheckInput(PETSC_FALSE, comm, "unknown key '%s'; README.md and -help list the keys", dotted);
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* PETSc takes the last 32 bits of a longer number without a word */
static PetscBool FitsInt(const char *value)
{
  return (PetscBool)(fabs(strtod(value, NULL)) <= (double)PETSC_MAX_INT);
}

static PetscErrorCode ParsesAs(KeyType type, const char *value, PetscBool *parses)
{
  PetscErrorCode ierr = 0;
  PetscInt       whole;
  PetscReal      real;
  PetscBool      flag;

  PetscFunctionBegin;
  PetscCall(PetscPushErrorHandler(PetscReturnErrorHandler, NULL));
  if (type == KEY_INT || type == KEY_INTS)
    ierr = FitsInt(value) ? PetscOptionsStringToInt(value, &whole) : GRAM_ERR_INPUT;
  else if (type == KEY_REAL || type == KEY_REALS) ierr = PetscOptionsStringToReal(value, &real);
  else if (type == KEY_BOOL && value[0]) ierr = PetscOptionsStringToBool(value, &flag);
  PetscCall(PetscPopErrorHandler());
  *parses = (PetscBool)!ierr;
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode CheckType(MPI_Comm comm, KeyType type, const char *dotted, const char *value)
{
  static const char *const expected[] = {"true or false", "a whole number", "whole numbers", "a number",
                                         "numbers",       "a word",         "a path"};
  PetscBool                parses     = PETSC_TRUE;
  PetscToken               token;
  char                    *item;

  PetscFunctionBegin;
  GramCheckInput(value[0] || type == KEY_BOOL, comm, "%s: no value, %s is needed", dotted, expected[type]);
  if (type == KEY_INTS || type == KEY_REALS) {
    PetscCall(PetscTokenCreate(value, ',', &token));
    PetscCall(PetscTokenFind(token, &item));
    while (item && parses) {
      PetscCall(ParsesAs(type, item, &parses));
      PetscCall(PetscTokenFind(token, &item));
    }
    PetscCall(PetscTokenDestroy(&token));
  } else PetscCall(ParsesAs(type, value, &parses));
  GramCheckInput(parses, comm, "%s: '%s' is not %s", dotted, value, expected[type]);
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* is value one of "a, b, c"? */
static PetscBool IsListed(const char *value, const char *list)
{
  const size_t length = strlen(value);

  for (const char *at = list; at; at = strchr(at, ',') ? strchr(at, ',') + 2 : NULL) {
    if (!strncasecmp(at, value, length) && (at[length] == ',' || !at[length])) return PETSC_TRUE;
  }
  return PETSC_FALSE;
}

/* keys whose default is that there is none; elsewhere the word is a choice like others */
static PetscBool MayBeNone(const char *name)
{
  static const char *const optional[] = {
      "data_gradients", "data_index",          "data_limit",     "target_file",  "target_values",
      "target_index",   "target_limit",        "target_grid",    "target_chunk", "model_file",
      "output_vtk",     "checkpoint_interval", "checkpoint_file"};

  for (size_t i = 0; i < PETSC_STATIC_ARRAY_LENGTH(optional); i++) {
    if (!strcasecmp(name, optional[i])) return PETSC_TRUE;
  }
  return PETSC_FALSE;
}

static PetscErrorCode CheckKey(MPI_Comm comm, const char *name, const char *value)
{
  char dotted[128];

  PetscFunctionBegin;
  if (!value) value = "";
  Dotted(name, dotted, sizeof dotted);
  if (!strcasecmp(value, "none") && MayBeNone(name)) {
    char option[128];

    PetscCall(PetscSNPrintf(option, sizeof option, "-%s", name));
    PetscCall(PetscOptionsClearValue(NULL, option));
    PetscFunctionReturn(PETSC_SUCCESS);
  }
  for (size_t i = 0; i < PETSC_STATIC_ARRAY_LENGTH(keys); i++) {
    if (strcasecmp(name, keys[i].name)) continue;
    PetscCall(CheckType(comm, keys[i].type, dotted, value));
    GramCheckInput(!keys[i].only || !value[0] || IsListed(value, keys[i].only), comm,
                   "%s: '%s' is not available in this version (%s)", dotted, value, keys[i].only);
    PetscFunctionReturn(PETSC_SUCCESS);
  }
  if (IsPetscName(name) || StartsLike(name, PETSC_STATIC_ARRAY_LENGTH(petsc_groups), petsc_groups))
    PetscFunctionReturn(PETSC_SUCCESS);
  PetscCall(RefuseUnknown(comm, name, dotted));
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscBool OnCommandLine(const GramCommand *c, const char *name)
{
  for (int i = 0; i < c->n_args; i++) {
    if (c->args[i][0] == '-' && !strcasecmp(c->args[i] + 1, name)) return PETSC_TRUE;
  }
  return PETSC_FALSE;
}

/* a choice that has the place of a path */
static PetscErrorCode IsWord(const char *name, const char *value, PetscBool *word)
{
  GramDesignKind kind;

  PetscFunctionBegin;
  *word = PETSC_FALSE;
  if (!strcmp(name, "nodes_start")) PetscCall(GramDesignFind(value, &kind, word));
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode ResolvePaths(MPI_Comm comm, const GramCommand *c)
{
  PetscFunctionBegin;
  for (int i = 0; i < c->n_configs; i++) {
    PetscOptions database;
    char         path[PETSC_MAX_PATH_LEN], *folder;

    PetscCall(PetscStrncpy(path, c->configs[i], sizeof path));
    folder = dirname(path);
    PetscCall(PetscOptionsCreate(&database));
    PetscCall(PetscOptionsInsertFileYAML(comm, database, c->configs[i], PETSC_TRUE));
    for (size_t k = 0; k < PETSC_STATIC_ARRAY_LENGTH(keys); k++) {
      char      option[64], value[PETSC_MAX_PATH_LEN], resolved[2 * PETSC_MAX_PATH_LEN];
      PetscBool set, word;

      if (keys[k].type != KEY_PATH || OnCommandLine(c, keys[k].name)) continue;
      PetscCall(PetscSNPrintf(option, sizeof option, "-%s", keys[k].name));
      PetscCall(PetscOptionsGetString(database, NULL, option, value, sizeof value, &set));
      if (!set || !value[0]) continue;
      PetscCall(IsWord(keys[k].name, value, &word));
      if (word) continue;
      if (!strcasecmp(value, "none") && MayBeNone(keys[k].name)) { /* unsets what an earlier config said */
        PetscCall(PetscOptionsClearValue(NULL, option));
        continue;
      }
      PetscCall(PetscSNPrintf(resolved, sizeof resolved, "%s/%s", folder, value));
      PetscCall(
          PetscOptionsSetValue(NULL, option, value[0] == '/' || !strcmp(folder, ".") ? value : resolved));
    }
    PetscCall(PetscOptionsDestroy(&database));
  }
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode KeepConfigs(MPI_Comm comm, const GramCommand *c)
{
  char        output[PETSC_MAX_PATH_LEN] = "result.h5";
  struct stat a, b;
  int         same = -1; /* the config that the output would replace */
  PetscMPIInt rank;

  PetscFunctionBegin;
  PetscCall(PetscOptionsGetString(NULL, NULL, "-output_file", output, sizeof output, NULL));
  PetscCallMPI(MPI_Comm_rank(comm, &rank));
  for (int i = 0; rank == 0 && i < c->n_configs && !stat(output, &a); i++) {
    if (!stat(c->configs[i], &b) && a.st_dev == b.st_dev && a.st_ino == b.st_ino) same = i;
  }
  PetscCallMPI(MPI_Bcast(&same, 1, MPI_INT, 0, comm));
  GramCheckInput(same < 0, comm, "output.file: '%s' is the config '%s'", output, c->configs[same]);
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramConfigCheck(MPI_Comm comm, const GramCommand *command)
{
  PetscInt n;
  char   **names, **values;

  PetscFunctionBegin;
  PetscCall(PetscOptionsLeftGet(NULL, &n, &names, &values));
  for (PetscInt i = 0; i < n; i++) PetscCall(CheckKey(comm, names[i], values[i]));
  PetscCall(PetscOptionsLeftRestore(NULL, &n, &names, &values));
  PetscCall(ResolvePaths(comm, command));
  PetscCall(KeepConfigs(comm, command));
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramConfigWarnUnused(MPI_Comm comm)
{
  PetscInt n;
  char   **names, **values;

  PetscFunctionBegin;
  PetscCall(PetscOptionsLeftGet(NULL, &n, &names, &values));
  for (PetscInt i = 0; i < n; i++) {
    if (!StartsLike(names[i], PETSC_STATIC_ARRAY_LENGTH(petsc_groups), petsc_groups))
      continue; /* another verb's */
    if (StartsLike(names[i], PETSC_STATIC_ARRAY_LENGTH(petsc_late), petsc_late)) continue;
    if (IsKey(names[i])) continue; /* of another verb, or of the other solve.method */
    PetscCall(PetscFPrintf(comm, stderr, "gramarye: warning: PETSc option -%s was not used\n", names[i]));
  }
  PetscCall(PetscOptionsLeftRestore(NULL, &n, &names, &values));
  PetscFunctionReturn(PETSC_SUCCESS);
}
