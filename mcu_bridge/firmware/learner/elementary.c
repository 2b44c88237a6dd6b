/* exp, log and tanh. The polynomials are our own minimax fits (dev/fit_elementary.py). */
#include "elementary.h"

typedef union {
    float value;
    uint32_t bits;
} float_bits_t;

static float power_of_two(int32_t exponent) /* -126 <= exponent <= 127 */
{
    float_bits_t power;
    power.bits = (uint32_t)(exponent + 127) << 23;
    return power.value;
}

/* ln 2 in two parts: the first has 15 significant bits, so that its product with an exponent is exact. */
static const float LN2_HIGH = 0x1.62e4p-1f;
static const float LN2_LOW = 0x1.7f7d1cp-20f;

/* x = n ln 2 + r with |r| <= ln 2 / 2, then e^x = 2^n e^r and e^r = 1 + r + r^2 P(r). */
float learner_exp(float x)
{
    const float nearest = 12582912.0f; /* 1.5 * 2^23: adding and subtracting it rounds to a whole number */
    if (x != x) {
        return x;
    }
    if (x < -104.0f) {
        return 0.0f;
    }
    if (x > 89.0f) {
        x = 89.0f; /* overflows below, to infinity */
    }
    const float n = (x * 0x1.715476p+0f + nearest) - nearest;
    const float r = (x - n * LN2_HIGH) - n * LN2_LOW;
    const float p = 0x1.fffffcp-2f +
                    r * (0x1.555492p-3f + r * (0x1.5558f2p-5f + r * (0x1.1239e2p-7f + r * 0x1.6a2434p-10f)));
    const float e = 1.0f + (r + (r * r) * p);
    const int32_t whole = (int32_t)n; /* -150 to 128: too far for one power of two */
    const int32_t half = whole / 2;
    return (e * power_of_two(half)) * power_of_two(whole - half);
}

/* x = 2^e (1 + f) with 1 + f in [sqrt(1/2), sqrt(2)); s = f / (2 + f), z = s^2;
 * ln(1 + f) = 2 artanh(s) = f - s (f - z Q(z)). */
float learner_log(float x)
{
    float_bits_t number;
    number.value = x;
    if (number.bits >= 0x7f800000u) {
        return x;
    }
    const uint32_t shifted = number.bits - 0x3f3504f3u; /* sqrt(1/2) */
    const float e = (float)((int32_t)shifted >> 23);
    number.bits = (shifted & 0x007fffffu) + 0x3f3504f3u;
    const float f = number.value - 1.0f;
    const float s = f / (2.0f + f);
    const float z = s * s;
    const float q = z * (0x1.55557ap-1f + z * (0x1.995e9cp-2f + z * 0x1.31e678p-2f));
    return e * LN2_HIGH + (f - (s * (f - q) - e * LN2_LOW));
}

/* Near 0 an odd polynomial, x + x^3 P(x^2); further out 1 - 2 / (e^2x + 1). */
float learner_tanh(float x)
{
    const float size = x < 0.0f ? -x : x;
    if (size < 0.625f) {
        const float z = x * x;
        const float p = -0x1.555534p-2f +
                        z * (0x1.110760p-3f + z * (-0x1.b8430ep-5f + z * (0x1.524e66p-6f + z * -0x1.76848ap-8f)));
        return x + (x * z) * p;
    }
    if (size != size) {
        return x;
    }
    const float y = size >= 9.1f ? 1.0f : 1.0f - 2.0f / (learner_exp(size + size) + 1.0f);
    return x < 0.0f ? -y : y;
}
