{{- define "pendra.name" -}}
{{- printf "%s-pendra" .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- define "pendra.labels" -}}
app.kubernetes.io/name: pendra
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{- define "pendra.tag" -}}
{{- .Values.image.tag | default .Chart.AppVersion -}}
{{- end -}}

{{- define "pendra.image" -}}
{{- printf "%s:%s" .Values.image.repository (include "pendra.tag" .) -}}
{{- end -}}

{{- define "pendra.cudaImage" -}}
{{- printf "%s:%s" .Values.image.repository (.Values.image.cudaTag | default (printf "%s-cuda" (include "pendra.tag" .))) -}}
{{- end -}}

{{- define "pendra.secret.fleet" -}}
{{- .Values.existingSecrets.fleet | default (printf "%s-fleet" (include "pendra.name" .)) -}}
{{- end -}}

{{- define "pendra.secret.workerKey" -}}
{{- .Values.existingSecrets.workerKey | default (printf "%s-worker-key" (include "pendra.name" .)) -}}
{{- end -}}

{{- define "pendra.secret.flower" -}}
{{- .Values.existingSecrets.flower | default (printf "%s-flower" (include "pendra.name" .)) -}}
{{- end -}}

{{/* Of a pod: nobody's user, nothing of the cluster's API. */}}
{{- define "pendra.pod" -}}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  seccompProfile: {type: RuntimeDefault}
{{- with .Values.image.pullSecrets }}
imagePullSecrets: {{ toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "pendra.container" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end -}}
