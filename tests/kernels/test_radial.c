static const char help[] = "Profiles agree with their textbook formulas in long double, at every distance.\n";

#include "../check.h"

#define GRAM_REAL double
#include "radial.h"

/* Rasmussen and Williams (2006), eq. 4.16, the sum itself */
static long double Matern(int p, long double r)
{
  const long double t   = sqrtl(2 * p + 1) * r;
  long double       sum = 0;

  for (int i = 0; i <= p; i++) {
    sum += tgammal(p + i + 1) / (tgammal(i + 1) * tgammal(p - i + 1)) * powl(2 * t, p - i);
  }
  return expl(-t) * tgammal(p + 1) / tgammal(2 * p + 1) * sum;
}

static long double Textbook(GramRadial type, long double r)
{
#define TEST_TWONU(UPPER, Camel, name, twonu, order, unit) twonu,
  static const int twonu[] = {GRAM_RADIAL_LIST(TEST_TWONU)};

  return type == GRAM_RADIAL_GAUSSIAN ? expl(-r * r / 2) : Matern((twonu[type] - 1) / 2, r);
}

int main(int argc, char **argv)
{
#define TEST_UNIT(UPPER, Camel, name, twonu, order, unit) unit,
#define TEST_NAME(UPPER, Camel, name, twonu, order, unit) name,
  static const double      unit[]  = {GRAM_RADIAL_LIST(TEST_UNIT)};
  static const char *const names[] = {GRAM_RADIAL_LIST(TEST_NAME)};

  PetscCall(PetscInitialize(&argc, &argv, NULL, help));
  for (int type = 0; type < GRAM_RADIAL_COUNT; type++) {
    for (int i = 0; i <= 4000; i++) {
      const double r = i == 0 ? 0 : 1e-9 * pow(10, i / 400.0), s = unit[type] * r * unit[type] * r;
      const double got = RadialEval((GramRadial)type, s), expected = (double)Textbook((GramRadial)type, r);

      /* the rounding of s and u grows the relative error with the exponent: |d phi / phi| = |ln phi| eps */
      if (expected > 1e-300) CHECK_CLOSE(names[type], got, expected, 4e-16 * (2 - log(expected)));
      else CHECK(got <= 1e-290, "%s at %g: %g, not 0", names[type], r, got);
    }
    CHECK(RadialEval((GramRadial)type, 0.0) == 1, "%s at 0 is not 1", names[type]);
  }
  for (int type = 0; type < GRAM_RADIAL_COUNT; type++) { /* first = 2 d phi / ds, second = 4 d^2 phi / ds^2 */
    for (int i = 0; i < 200; i++) {
      const long double c2 = (long double)unit[type] * unit[type], s = 0.01L + 0.1L * i,
                        h     = 1e-4L * (s + 0.1L);
      const long double below = Textbook((GramRadial)type, sqrtl((s - h) / c2)),
                        at    = Textbook((GramRadial)type, sqrtl(s / c2)),
                        above = Textbook((GramRadial)type, sqrtl((s + h) / c2));
      const GramJet jet       = RadialJet((GramRadial)type, (double)s);

      CHECK_CLOSE("first derivative", jet.first, (double)((above - below) / h), 1e-5);
      CHECK_CLOSE("second derivative", jet.second, (double)(4 * (above - 2 * at + below) / (h * h)), 1e-5);
    }
  }
  PetscCall(PetscFinalize());
  return check_failures != 0;
}
