/* The watchdog's token: the next value of its register of feedback. */

#include "island.h"

uint32_t watchdog_token(uint32_t challenge)
{
    return (challenge >> 1) ^ (WATCHDOG_TAPS & (0u - (challenge & 1u)));
}
