package sandbox

import (
	"errors"
	"net/http"
	"strings"
)

// texts are those of the hosted pages in one language.
type texts map[string]string

// textsFor chooses Portuguese for browsers that want it. Tools, which name no language, get English.
func textsFor(r *http.Request) texts {
	for part := range strings.SplitSeq(r.Header.Get("Accept-Language"), ",") {
		language, _, _ := strings.Cut(strings.ToLower(strings.TrimSpace(part)), ";")
		switch primary, _, _ := strings.Cut(language, "-"); primary {
		case "pt":
			return portuguese
		case "en":
			return english
		}
	}
	return english
}

// pageError is what a form lacks, by the name of its text.
type pageError string

func (e pageError) Error() string { return english[string(e)] }

// explain says why a form was refused. Klavi's own words are English.
func (t texts) explain(err error) string {
	if e, ok := errors.AsType[pageError](err); ok {
		return t[string(e)]
	}
	e, ok := errors.AsType[*apiError](err)
	if !ok {
		return err.Error()
	}
	switch e.StatusCode {
	case consentLimit:
		return t["consentLimit"]
	case invalidInstitution:
		return t["invalidInstitution"]
	}
	return t["refused"] + e.Message
}

var english = texts{
	"lang":       "en",
	"simulation": "simulation",
	"notice":     "Simulation: no bank and no real data are behind this page.",
	"klaviPlace": "takes you to your bank",
	"bankPlace":  "your bank's own page",

	"way":            "Steps",
	"wayInstitution": "Institution",
	"wayBank":        "Bank",
	"wayLGPD":        "Agreement",

	"startTitle":  "Choose your institution",
	"presetTitle": "Share your data",
	"institution": "Institution",
	"outage":      "unstable",
	"yourCPF":     "Your CPF",
	"continue":    "Continue",
	"leave":       "Leave",

	"bankTitle":          "Share your data?",
	"bankAsks":           "This is the bank's side. It will share the following with Klavi, if you say so:",
	"sharedRegistration": "Who you are",
	"sharedAccounts":     "Accounts and their movements",
	"sharedCards":        "Credit cards and bills",
	"sharedCredit":       "Loans and financings",
	"sharedInvestments":  "Investments",
	"until":              "Until",
	"revoked":            "it is revoked",
	"approve":            "Approve",
	"refuse":             "Refuse",
	"only":               "Only here, in the simulation:",
	"fail":               "Let the bank fail",

	"lgpdTitle": "Share with the app?",
	"lgpdAsks":  "Your bank agreed. The data protection law (LGPD) asks once more: may your data be passed on to the app that brought you here?",
	"agree":     "I agree",
	"disagree":  "I do not agree",

	"chooseOne":          "Choose an institution.",
	"fillCPF":            "Fill in your CPF.",
	"consentLimit":       "Consents exceeds the limit",
	"invalidInstitution": "The institution is in outage, or there is no permission for it",
	"refused":            "",

	"unknownLink":        "Unknown link",
	"unknownLinkText":    "This link does not exist.",
	"linkExpired":        "Link expired",
	"linkExpiredText":    "A link lives for 30 minutes. Ask the app for a new one.",
	"used":               "Already used",
	"usedText":           "A consentRedirectURL can be opened once. Create a new consent.",
	"tooLate":            "Too late",
	"tooLateText":        "A consentRedirectURL must be opened within 60 seconds. Create a new consent.",
	"nothingToDo":        "Nothing to do",
	"nothingToDoText":    "This consent is ",
	"unknownSession":     "Unknown session",
	"unknownSessionText": "Start again from the app.",
	"noDecision":         "No decision",
	"noDecisionText":     "Approve or refuse.",
	"notShared":          "Not shared",
	"notSharedText":      "Nothing was shared. You can close this page. The reason: ",
	"done":               "Done. You can close this page.",
	"doneText":           "",
}

var portuguese = texts{
	"lang":       "pt-BR",
	"simulation": "simulação",
	"notice":     "Simulação: não há banco nem dados reais por trás desta página.",
	"klaviPlace": "leva você ao seu banco",
	"bankPlace":  "a página do seu banco",

	"way":            "Etapas",
	"wayInstitution": "Instituição",
	"wayBank":        "Banco",
	"wayLGPD":        "Autorização",

	"startTitle":  "Escolha sua instituição",
	"presetTitle": "Compartilhe seus dados",
	"institution": "Instituição",
	"outage":      "instável",
	"yourCPF":     "Seu CPF",
	"continue":    "Continuar",
	"leave":       "Sair",

	"bankTitle":          "Compartilhar seus dados?",
	"bankAsks":           "Este é o lado do banco. Se você quiser, ele vai compartilhar com a Klavi:",
	"sharedRegistration": "Seus dados cadastrais",
	"sharedAccounts":     "Contas e movimentações",
	"sharedCards":        "Cartões de crédito e faturas",
	"sharedCredit":       "Empréstimos e financiamentos",
	"sharedInvestments":  "Investimentos",
	"until":              "Até",
	"revoked":            "ser revogado",
	"approve":            "Autorizar",
	"refuse":             "Recusar",
	"only":               "Só aqui, na simulação:",
	"fail":               "Fazer o banco falhar",

	"lgpdTitle": "Compartilhar com o app?",
	"lgpdAsks":  "O seu banco concordou. A lei de proteção de dados (LGPD) pergunta mais uma vez: seus dados podem ser repassados ao app que trouxe você até aqui?",
	"agree":     "Concordo",
	"disagree":  "Não concordo",

	"chooseOne":          "Escolha uma instituição.",
	"fillCPF":            "Informe o seu CPF.",
	"consentLimit":       "Já existem consentimentos demais com esta instituição.",
	"invalidInstitution": "A instituição está fora do ar, ou não há permissão para ela.",
	"refused":            "Não foi aceito. Confira o CPF. ",

	"unknownLink":        "Link desconhecido",
	"unknownLinkText":    "Este link não existe.",
	"linkExpired":        "Link vencido",
	"linkExpiredText":    "Um link vive 30 minutos. Peça outro ao app.",
	"used":               "Já usado",
	"usedText":           "Uma consentRedirectURL só abre uma vez. Crie outro consentimento.",
	"tooLate":            "Tarde demais",
	"tooLateText":        "Uma consentRedirectURL precisa ser aberta em até 60 segundos. Crie outro consentimento.",
	"nothingToDo":        "Nada a fazer",
	"nothingToDoText":    "O estado deste consentimento é ",
	"unknownSession":     "Sessão desconhecida",
	"unknownSessionText": "Comece de novo pelo app.",
	"noDecision":         "Sem decisão",
	"noDecisionText":     "Autorize ou recuse.",
	"notShared":          "Não compartilhado",
	"notSharedText":      "Nada foi compartilhado. Você já pode fechar esta página. O motivo: ",
	"done":               "Pronto. Você já pode fechar esta página.",
	"doneText":           "",
}
