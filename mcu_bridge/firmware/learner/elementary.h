/* exp, log and tanh from single-precision + - * / and bit operations only: the same bits everywhere. */
#ifndef TINYFLEET_LEARNER_ELEMENTARY_H
#define TINYFLEET_LEARNER_ELEMENTARY_H

#include "learner_internal.h"

/* e^x. Relative error below 2e-7 where the result is a normal number; gradual underflow below, 0
 * under -104, infinity above 89, NaN for NaN. */
float learner_exp(float x);

/* Natural logarithm of a normal, positive number; relative error below 2e-7 for x >= 1. The softmax asks only
 * for x >= 1. Infinity for infinity, NaN for NaN; undefined for what is below 2^-126. */
float learner_log(float x);

/* Hyperbolic tangent, odd; absolute error below 2e-7, exactly +-1 from |x| >= 9.1. */
float learner_tanh(float x);

#endif
