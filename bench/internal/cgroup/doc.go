// Package cgroup puts processes into a control group with a limit of memory, as a
// container has one, and fills it up: what they allocate from then on is counted, and
// what another process of the group does. Both versions of control groups will do
// (cgroups(7)); it needs root, and a memory controller that may be used.
package cgroup
