// Options out of range, told the same way everywhere.
#pragma once

#include <cmath>
#include <string>

namespace personaplug {

// Throws `Refusal`, an error of error.h, naming the option, what was expected and what came.
template <class Refusal> void require(bool good, const char *option, const std::string &expected, double actual) {
    if (good) {
        return;
    }
    const bool whole = actual == std::floor(actual) && std::fabs(actual) < 1e15;
    const std::string number = whole ? std::to_string(static_cast<long long>(actual)) : std::to_string(actual);
    throw Refusal(std::string(option) + " must be " + expected + ", got " + number);
}

} // namespace personaplug
