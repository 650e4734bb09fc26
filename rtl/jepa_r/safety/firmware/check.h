/* Checks of single numbers, without branches where the compiler can. */

#ifndef CHECK_H
#define CHECK_H

#include <stdint.h>

/* 1 if a number is outside its limits, which are good themselves. */
static inline uint32_t outside(int32_t value, int32_t low, int32_t high)
{
    return (uint32_t)(value < low) | (uint32_t)(value > high);
}

/* 1 if two numbers are more than a step apart. Any difference fits without its sign. */
static inline uint32_t apart(int32_t value, int32_t last, uint32_t step)
{
    uint32_t size = value > last ? (uint32_t)value - (uint32_t)last
                                 : (uint32_t)last - (uint32_t)value;

    return (uint32_t)(size > step);
}

/* The fault of the lowest bit set, that of bit 0 being `first`; FAULT_NONE if none is. */
static inline uint32_t lowest(uint32_t bits, uint32_t first, uint32_t count)
{
    uint32_t n;

    for (n = 0u; n < count; ++n) { /* bound: count, a constant */
        if (((bits >> n) & 1u) != 0u) {
            return first + n;
        }
    }
    return FAULT_NONE;
}

#endif
