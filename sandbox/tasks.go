package sandbox

import (
	"github.com/google/uuid"
)

// task is an Open Data collection, for institutions of type 2 (docs.klavi.ai/connect/get-a-task-status).
type task struct {
	id          string
	link        *link
	institution string
	status      string
	polls       int
	mfaDone     bool
}

// mfaID is the question that a task asks; one is enough.
const mfaID = 1001

type mfaInfo struct {
	MFAID     int        `json:"mfaId"`
	MFAType   string     `json:"mfaType"`
	Questions []question `json:"questions"`
}

type question struct {
	ID       string   `json:"id"`
	Question string   `json:"question"`
	Options  []option `json:"options"`
}

type option struct {
	Label string `json:"label"`
	Value string `json:"value"`
}

var whichWay = mfaInfo{mfaID, "questions", []question{{
	"1", "How do you want to receive your code?", []option{{"SMS", "sms"}, {"E-mail", "email"}},
}}}

// postTask is POST /tasks. That a task can be created is known from the menu of Klavi's docs only; the body is inferred.
func (s *Sandbox) postTask(c *call) (any, error) {
	var in struct {
		InstitutionCode string `json:"institutionCode"`
	}
	if err := c.decode(&in); err != nil {
		return nil, err
	}
	if in.InstitutionCode == "" {
		return nil, missing("institutionCode")
	}
	inst := findInstitution(in.InstitutionCode)
	if inst == nil || inst.Type != openData {
		return nil, businessError(invalidInstitution)
	}
	t := &task{id: uuid.NewString(), link: c.link, institution: inst.Code, status: "pending"}
	s.tasks.put(t.id, t)
	c.link.tasks = append(c.link.tasks, t)
	return struct {
		TaskID string `json:"taskId"`
	}{t.id}, nil
}

// findTask finds a task of the caller's own link.
func (s *Sandbox) findTask(c *call) (*task, error) {
	t, ok := s.tasks.get(c.id)
	if !ok || t.link != c.link {
		return nil, notFound("task not found")
	}
	return t, nil
}

// getTaskStatus is GET /tasks/{taskId}/status. The first look finds it pending.
func (s *Sandbox) getTaskStatus(c *call) (any, error) {
	t, err := s.findTask(c)
	if err != nil {
		return nil, err
	}
	reply := struct {
		Code    int      `json:"code"`
		Message string   `json:"message"`
		Status  string   `json:"status"`
		MFAInfo *mfaInfo `json:"mfaInfo,omitempty"`
	}{Code: 200, Message: "OK"}

	t.polls++
	p := personaOf(t.institution)
	switch {
	case t.polls == 1:
		t.status = "pending"
	case p == taskFails:
		t.status, reply.Code, reply.Message = "fail", 402, "user credential error"
	case p == taskAsksMFA && !t.mfaDone:
		t.status, reply.MFAInfo = "needMFA", &whichWay
	default:
		t.status = "success"
	}
	reply.Status = t.status
	return reply, nil
}

// postMFA is POST /tasks/{taskId}/mfa. Any answer is right.
func (s *Sandbox) postMFA(c *call) (any, error) {
	t, err := s.findTask(c)
	if err != nil {
		return nil, err
	}
	var in struct {
		MFAID *float64 `json:"mfaId"`
	}
	if err := c.decode(&in); err != nil {
		return nil, err
	}
	if in.MFAID == nil {
		return nil, missing("mfaId")
	}
	if *in.MFAID != mfaID {
		return nil, badRequest("Invalid mfaId")
	}
	t.mfaDone = true
	return ok200, nil
}
