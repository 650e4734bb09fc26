/* Checks of a command. Its words: sequence, age, flags, then positions, velocities and torques. */

#include "island.h"
#include "check.h"

#define SEQUENCE 0u
#define AGE 1u
#define FLAGS 2u
#define POSITION 3u
#define VELOCITY (POSITION + JOINTS)
#define TORQUE (VELOCITY + JOINTS)

static uint32_t check_age(const struct settings *limits, const struct packet *packet)
{
    uint32_t bound = limits->command_age_us;

    /* Of the second comparison both sides fit, since the bound is at most 10 s. */
    if (packet->words[AGE] > bound) {
        return FAULT_COMMAND_AGE;
    }
    if (packet->age > (bound - packet->words[AGE]) * CYCLES_PER_US) {
        return FAULT_COMMAND_AGE;
    }
    return FAULT_NONE;
}

static uint32_t check_header(const struct settings *limits, const struct packet *packet,
                             const struct commands *commands)
{
    uint32_t lost = (packet->status & COMMAND_STATUS_LOST) >> COMMAND_STATUS_LOST_SHIFT;

    if ((packet->status & COMMAND_STATUS_LENGTH_GOOD) == 0u) {
        return FAULT_COMMAND_LENGTH;
    }
    if ((packet->status & COMMAND_STATUS_CRC_GOOD) == 0u) {
        return FAULT_COMMAND_CRC;
    }
    if (packet->words[FLAGS] != 0u) {
        return FAULT_COMMAND_FLAGS;
    }
    if (commands->started != 0u) {
        if (packet->words[SEQUENCE] == commands->sequence) {
            return FAULT_COMMAND_REPEATED;
        }
        if ((lost > 1u) || (packet->words[SEQUENCE] != commands->sequence + 1u + lost)) {
            return FAULT_COMMAND_ORDER;
        }
    }
    return check_age(limits, packet);
}

static uint32_t check_values(const struct settings *limits, const struct packet *packet,
                             const struct commands *commands)
{
    uint32_t bad = 0u;
    /* A lost command leaves two steps between those that are seen. */
    uint32_t wide = (packet->status & COMMAND_STATUS_LOST) != 0u ? 1u : 0u;
    const struct command *last = &commands->last;
    uint32_t joint;

    for (joint = 0u; joint < JOINTS; ++joint) { /* bound: JOINTS */
        int32_t position = (int32_t)packet->words[POSITION + joint];
        int32_t velocity = (int32_t)packet->words[VELOCITY + joint];
        int32_t torque = (int32_t)packet->words[TORQUE + joint];
        int32_t speed = limits->velocity_limit[joint];
        int32_t force = limits->torque_limit[joint];
        uint32_t position_step = (uint32_t)limits->position_step[joint] << wide;
        uint32_t velocity_step = (uint32_t)limits->velocity_step[joint] << wide;
        uint32_t torque_step = (uint32_t)limits->torque_step[joint] << wide;

        bad |= (uint32_t)(position == NOT_A_NUMBER);
        bad |= (uint32_t)(velocity == NOT_A_NUMBER) << 1;
        bad |= (uint32_t)(torque == NOT_A_NUMBER) << 2;
        bad |= outside(position, limits->position_low[joint], limits->position_high[joint]) << 3;
        bad |= outside(velocity, -speed, speed) << 4;
        bad |= outside(torque, -force, force) << 5;
        bad |= apart(position, last->position[joint], position_step) << 6;
        bad |= apart(velocity, last->velocity[joint], velocity_step) << 7;
        bad |= apart(torque, last->torque[joint], torque_step) << 8;
    }
    /* The bits are in the order of the faults. */
    return lowest(bad, FAULT_POSITION_NAN, 9u);
}

/* Check a command and, if it is good, accept it. Without a new one the last stays good for as many
   periods as the settings say, and while it is not too old. */
uint32_t command_check(const struct settings *limits, const struct packet *packet,
                       struct commands *commands)
{
    uint32_t fault;
    uint32_t joint;

    if ((packet->status & COMMAND_STATUS_FRESH) == 0u) {
        if ((commands->started == 0u) || (commands->misses >= limits->command_misses)) {
            return FAULT_COMMAND_MISSING;
        }
        commands->misses += 1u;
        return check_age(limits, packet);
    }
    fault = check_header(limits, packet, commands);
    if (fault == FAULT_NONE) {
        fault = check_values(limits, packet, commands);
    }
    if (fault == FAULT_NONE) {
        commands->started = 1u;
        commands->sequence = packet->words[SEQUENCE];
        commands->misses = 0u;
        for (joint = 0u; joint < JOINTS; ++joint) { /* bound: JOINTS */
            commands->last.position[joint] = (int32_t)packet->words[POSITION + joint];
            commands->last.velocity[joint] = (int32_t)packet->words[VELOCITY + joint];
            commands->last.torque[joint] = (int32_t)packet->words[TORQUE + joint];
        }
    }
    return fault;
}
