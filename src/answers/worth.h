// What all answers call a difference that is worth having.

#pragma once

#define WORTH_HAVING 0.03 // of the plainer, or the other one: a gain below it is none
