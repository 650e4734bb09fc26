/* The one law of torque: torque = sat(K (target - position) - D velocity + feed-forward), then the
   bound on its change. Q16.16, products of 64 bits, rounded half up. */

#include "island.h"

static int64_t clamp(int64_t value, int64_t low, int64_t high)
{
    if (value < low) {
        return low;
    }
    return value > high ? high : value;
}

/* `torque` holds the torques that went out last, and then the next. */
void impedance(const struct settings *limits, const struct command *target,
               const struct joints *joints, int32_t torque[JOINTS])
{
    uint32_t joint;

    for (joint = 0u; joint < JOINTS; ++joint) { /* bound: JOINTS */
        int64_t limit = limits->torque_limit[joint];
        int64_t slew = limits->torque_slew[joint];
        int64_t last = torque[joint];
        int32_t error = (int32_t)clamp((int64_t)target->position[joint] - joints->position[joint],
                                       INT32_MIN, INT32_MAX);
        /* Gains are not negative, so each product is below 2^62 and the difference below
           2^63 - 2^32; the feed-forward is a whole number of the last place and comes after. */
        int64_t sum = (int64_t)limits->stiffness[joint] * error
                      - (int64_t)limits->damping[joint] * joints->velocity[joint];
        int64_t rounded = ((sum + 0x8000) >> 16) + target->torque[joint];
        int64_t wanted = clamp(rounded, -limit, limit);

        torque[joint] = (int32_t)clamp(wanted, last - slew, last + slew);
    }
}
