package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"voicefleet/bench/load"
	"voicefleet/bench/scenario"
)

// callFlags are those of a call, which is a scenario of one room.
type callFlags struct {
	bots, talkers, slots, ears int
	length                     time.Duration
	pauses, light              bool
	maxLoss                    float64
	maxP99                     time.Duration
}

// scenario is the load that the flags describe.
func (c *callFlags) scenario() (*scenario.Scenario, error) {
	switch {
	case c.bots < 2 || c.bots > 500:
		return nil, fmt.Errorf("call: --bots %d, want 2 to 500; larger loads are scenarios (voicebench scenario ls)", c.bots)
	case c.talkers < 1 || c.talkers > c.bots:
		return nil, fmt.Errorf("call: %d of %d bots talk, want --talkers from 1 to --bots", c.talkers, c.bots)
	case c.slots < 1 || c.slots > 32:
		return nil, fmt.Errorf("call: --slots %d, want 1 to 32", c.slots)
	case c.talkers > c.slots+1:
		return nil, fmt.Errorf("call: %d talkers need more than %d slots: who is heard would depend on loudness; have fewer talk, or raise --slots", c.talkers, c.slots)
	case c.length < time.Second || c.length > 24*time.Hour:
		return nil, fmt.Errorf("call: --length %v, want 1s to 24h", c.length)
	case c.ears < 0:
		return nil, fmt.Errorf("call: --ears %d, want 0 (all) or more", c.ears)
	}
	kind, talk := scenario.BotsFaithful, scenario.Talk{}
	if c.light {
		kind = scenario.BotsLight
	}
	if c.pauses {
		talk = scenario.Talk{Pattern: scenario.TalkP59, Silence: true}
	}
	s := scenario.Call("call", c.bots, c.talkers, kind, talk)
	s.Duration, s.Server.Slots = c.length, c.slots
	if c.maxLoss >= 0 {
		s.Goals = append(s.Goals, scenario.AtMost("loss_percent", c.maxLoss))
	}
	if c.maxP99 > 0 {
		s.Goals = append(s.Goals, scenario.AtMost("latency_p99_ms", float64(c.maxP99)/1e6))
	}
	s.Goals = append(s.Goals, scenario.AtMost("wrong_voice", 0), scenario.AtMost("duplicates", 0))
	return s, s.Check()
}

func callCommand() *cobra.Command {
	var l loadFlags
	var c callFlags
	cmd := &cobra.Command{
		Use:     "call",
		Short:   "Real WebRTC bots in a call: loss, latency, the right voices",
		Long:    wordsCall,
		Example: "  voicebench call\n  voicebench call --server https://voice.example:8443 --invite CODE --channel Lobby --bots 10 --talkers 3\n  voicebench call --data ./data --length 5m\n  voicebench call --light --bots 100 --max-p99 20ms",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if l.bus != "" && !c.light {
				return errors.New("--bus lends light clients, and this call has none: add --light")
			}
			s, err := c.scenario()
			if err != nil {
				return err
			}
			l.start()
			l.config.Kind, l.config.Ears = "call", c.ears
			return l.run(cmd, s, nil, load.Run)
		},
	}
	l.flags(cmd)
	f := cmd.Flags()
	f.IntVar(&c.bots, "bots", 5, "bots in the channel")
	f.IntVar(&c.talkers, "talkers", 2, "of them who talk")
	f.BoolVar(&c.light, "light", false, "light clients instead of real WebRTC: many more of them, and nobody decodes")
	f.DurationVar(&c.length, "length", 20*time.Second, "length of the measurement, once all are in")
	f.BoolVar(&c.pauses, "pauses", true, "talk with pauses, after ITU-T P.59")
	f.IntVar(&c.slots, "slots", 16, "receive streams each bot offers (K)")
	f.IntVar(&c.ears, "ears", 4, "bots, the last to come, who decode and judge voices by their sound; 0: all")
	f.Float64Var(&c.maxLoss, "max-loss", 0.1, "goal: loss in percent; negative: none")
	f.DurationVar(&c.maxP99, "max-p99", 0, "goal: one-way latency p99; 0: none")
	return cmd
}
