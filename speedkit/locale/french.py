"""The French of everything that :mod:`speedkit.words` says: English, as it stands in the code -> French.

Written with plain spaces and apostrophes; :mod:`speedkit.words` sets the spaces before : ; ! ? % and in « ».

The words for one thing are always the same: pas (step), époque, lot (batch), taux d'apprentissage, référence and
variante, paire, exactitude (accuracy), perte (loss), précision (of the arithmetic only), entraînement (run), baisse and
hausse (lower and higher), n/d (non disponible). Names of fields and their values stay as they are written in code.
"""

SAID = {
    # A recipe and a machine
    "early stopping {patience}": "arrêt anticipé {patience}",
    "{kind} augmentation": "augmentation {kind}",
    "batch norm": "normalisation par lots",
    "{n} worker": "{n} processus",
    "{n} workers": "{n} processus",
    "{place} cache": "cache {place}",
    "{n} core": "{n} cœur",
    "{n} cores": "{n} cœurs",
    "{name}, {cores}, {memory} of memory, no GPU in use": "{name}, {cores}, {memory} de mémoire, aucun GPU utilisé",
    "{name} ({own}) beside {cores} and {memory} of memory": "{name} ({own}), avec {cores} et {memory} de mémoire",
    "memory n/a": "mémoire n/d",
    "This machine: {sentence}.": "Cette machine : {sentence}.",
    "This machine:": "Cette machine :",
    "This GPU has no TF32 and no bf16 tensor cores: those steps are refused or slow.": (
        "Ce GPU n'a de tensor cores ni pour TF32 ni pour bf16 : ces pas sont refusés, ou lents."
    ),
    "There is no NVIDIA GPU here: TF32, device events and GPU power are n/a.": (
        "Il n'y a pas de GPU NVIDIA ici : TF32, les événements du GPU et sa puissance sont n/d (non disponibles)."
    ),
    "The processor computes bf16 in hardware, fp16 training it does not.": (
        "Le processeur calcule en bf16 de façon matérielle, mais n'entraîne pas en fp16."
    ),
    "The processor has no bf16 and no fp16 arithmetic: reduced precision will be emulated, and slow.": (
        "Le processeur ne calcule ni en bf16 ni en fp16 : la précision réduite sera émulée, donc lente."
    ),
    "torch was loaded before speedkit could ask its threads to spin only briefly: beside a busy browser, training can "
    "be many times slower. Import speedkit first, after a restart of the kernel.": (
        "torch a été chargé avant que speedkit puisse limiter l'attente active de ses threads : à côté d'un navigateur "
        "occupé, l'entraînement peut être plusieurs fois plus lent. Importez speedkit en premier, après avoir "
        "redémarré le noyau."
    ),
    "With {n} core, workers and training share it.": (
        "Avec {n} cœur, les processus de chargement et l'entraînement se le partagent."
    ),
    "With {n} cores, workers and training share the same cores.": (
        "Avec {n} cœurs, les processus de chargement et l'entraînement se partagent les mêmes cœurs."
    ),
    "This process and its workers now take {own} of main memory: {memory} hold about {count} such.": (
        "Ce processus et ses processus de chargement occupent maintenant {own} de mémoire centrale : {memory} en "
        "contiennent environ {count}."
    ),
    "This process and its workers now take {own} of main memory of their own and {shared} of files that other such "
    "processes share: {memory} hold about {count} such.": (
        "Ce processus et ses processus de chargement occupent maintenant {own} de mémoire centrale qui leur est "
        "propre, et {shared} de fichiers que d'autres processus semblables partagent : {memory} en contiennent "
        "environ {count}."
    ),
    # Figures
    "{number}%": "{number} %",
    "{n} bytes": "{n} octets",
    "{what}: {text}": "{what} : {text}",
    "{low} to {high}": "{low} à {high}",
    "{difference} points": "{difference} points",
    # A run
    "Where the time goes is known from the second step on.": "On saura où passe le temps dès le deuxième pas.",
    "{waiting}% waiting for data: more workers or a cache can help; precision cannot help much.": (
        "{waiting} % d'attente des données : plus de processus de chargement ou un cache peuvent aider ; la précision, "
        "guère."
    ),
    "{waiting}% waiting for data, {computing}% computing: workers or a cache can win back at most the first, a cheaper "
    "step at most the second.": (
        "{waiting} % d'attente des données, {computing} % de calcul : des processus de chargement ou un cache peuvent "
        "regagner au plus la première part, un pas moins coûteux au plus la seconde."
    ),
    "{waiting}% waiting for data: only a cheaper or a rarer step can help; workers and caches cannot.": (
        "{waiting} % d'attente des données : seuls des pas moins coûteux ou moins nombreux peuvent aider, pas les "
        "processus de chargement ni les caches."
    ),
    "{time} for {steps} in {epochs}, after {preparation} of preparation": (
        "{time} pour {steps} en {epochs}, après {preparation} de préparation"
    ),
    "{n} step": "{n} pas",
    "{n} steps": "{n} pas",
    "{n} epoch": "{n} époque",
    "{n} epochs": "{n} époques",
    "{waiting} waiting for data + {computing} computing (means)": (
        "{waiting} d'attente des données + {computing} de calcul (moyennes)"
    ),
    "validation {validation}, training {training}": "validation {validation}, entraînement {training}",
    ", test {test}": ", test {test}",
    "{joules} J on the GPU": "{joules} J sur le GPU",
    "cut to a few steps by SPEEDKIT_SMOKE: no figure here means anything": (
        "réduite à quelques pas par SPEEDKIT_SMOKE : aucun de ces chiffres n'a de sens"
    ),
    "Means over the steps of one run each, the first step left out.": (
        "Moyennes sur les pas d'un seul entraînement par ligne, sans le premier pas."
    ),
    "waiting": "attente",
    "computing": "calcul",
    "peak memory": "pic de mémoire",
    "ended": "fin",
    "stopwatch": "chronomètre",
    "times the last row": "multiple de la dernière ligne",
    # Turns and neighbours
    "waiting for {n} other comparison on this machine": "en attente de {n} autre comparaison sur cette machine",
    "waiting for {n} other comparisons on this machine": "en attente de {n} autres comparaisons sur cette machine",
    "(the first came at {time})": "(la première est arrivée à {time})",
    "(a comparison among them)": "(dont une comparaison)",
    "{n} other speedkit run is active on this machine{compared}: no time that is measured now is that of a run "
    "alone.": (
        "{n} autre entraînement speedkit est actif sur cette machine{compared} : aucun temps mesuré maintenant n'est "
        "celui d'un entraînement seul."
    ),
    "{n} other speedkit runs are active on this machine{compared}: no time that is measured now is that of a run "
    "alone.": (
        "{n} autres entraînements speedkit sont actifs sur cette machine{compared} : aucun temps mesuré maintenant "
        "n'est celui d'un entraînement seul."
    ),
    "The machine is loaded: on average of the last minute, {threads} threads wanted its {cores} cores.": (
        "La machine est chargée : en moyenne sur la dernière minute, {threads} threads demandaient ses {cores} cœurs."
    ),
    "{n} other process computes on this GPU.": "{n} autre processus calcule sur ce GPU.",
    "{n} other processes compute on this GPU.": "{n} autres processus calculent sur ce GPU.",
    # The panel
    "Run": "Lancer",
    "Stop": "Arrêter",
    "Forget earlier runs": "Oublier les précédents",
    "patience {epochs}": "patience {epochs}",
    "on": "oui",
    "all": "toutes",
    "none": "aucun",
    "speedkit panel (live widgets: run this cell to use them)": (
        "panneau speedkit (widgets interactifs : exécutez cette cellule pour les utiliser)"
    ),
    "No run has ended in this panel yet.": "Aucun entraînement n'est encore terminé dans ce panneau.",
    "Ready: {machine}.": "Prêt : {machine}.",
    "Preparing …": "Préparation …",
    "Stopping …": "Arrêt …",
    "{status} after {n} step, {time}.": "{status} après {n} pas, {time}.",
    "{status} after {n} steps, {time}.": "{status} après {n} pas, {time}.",
    "{status} before the first step.": "{status} avant le premier pas.",
    "{done} of {total} {what} …": "{what} : {done} sur {total} …",
    "Step {done} of {total}, {time} left": "Pas {done} sur {total}, il reste {time}",
    ", validation accuracy {accuracy}": ", exactitude de validation {accuracy}",
    "{when}: {sentence}": "{when} : {sentence}",
    "Shared memory (/dev/shm) is full: choose workers=0 or cache='disk', or give the container more of it (docker run "
    "--shm-size=2g).": (
        "La mémoire partagée (/dev/shm) est pleine : choisissez workers=0 ou cache='disk', ou donnez-en davantage au "
        "conteneur (docker run --shm-size=2g)."
    ),
    "A worker process ended unexpectedly{how}: run again; if it happens again, the machine may be short of memory: "
    "choose fewer workers or smaller images.": (
        "Un processus de chargement s'est arrêté de façon inattendue{how} : relancez ; si cela se répète, la machine "
        "manque peut-être de mémoire : choisissez moins de processus ou des images plus petites."
    ),
    "Main memory is used up{more}: lower the batch size or the image size, or take a smaller network.": (
        "La mémoire centrale est épuisée{more} : réduisez la taille de lot ou celle des images, ou prenez un réseau "
        "plus petit."
    ),
    "({amount} more were needed)": "(il en fallait {amount} de plus)",
    "{what}: lower the batch size or the image size, or take a smaller network.": (
        "{what} : réduisez la taille de lot ou celle des images, ou prenez un réseau plus petit."
    ),
    "{what} (panel.run() in a cell shows where this happened).": (
        "{what} (panel.run() dans une cellule montre où cela s'est produit)."
    ),
    # The chart
    "this run: {name}": "cet entraînement : {name}",
    "Times and rates in the titles: means of the last {steps} steps.": (
        "Durées et débits des titres : moyennes des {steps} derniers pas."
    ),
    "Times and rates in the titles: means of the whole run.": (
        "Durées et débits des titres : moyennes de tout l'entraînement."
    ),
    "Line: mean of {steps} steps; band: lowest to highest of them.": (
        "Ligne : moyenne de {steps} pas ; bande : du plus bas au plus haut."
    ),
    "time of a step:": "durée d'un pas :",
    "waiting for data {time}": "attente des données {time}",
    "computing {time}": "calcul {time}",
    "memory on the device: {amount}": "mémoire sur le périphérique : {amount}",
    "memory of the processes (resident): {amount}": "mémoire résidente des processus : {amount}",
    "images per second: {rate}": "images par seconde : {rate}",
    "training loss (left) {loss}": "perte (gauche) {loss}",
    "● validation accuracy (right) {accuracy}": "● exactitude de val. (droite) {accuracy}",
    "not yet": "à venir",
    "first step {value}": "premier pas {value}",
    "up to {value}": "jusqu'à {value}",
    "no step yet": "aucun pas encore",
    "n/a on this machine": "n/d sur cette machine",
    "waiting: n/a on this machine": "attente : n/d sur cette machine",
    "computing: n/a on this machine": "calcul : n/d sur cette machine",
    "steps": "pas",
    "step {done}": "pas {done}",
    "step {done} of {total}": "pas {done} sur {total}",
    "{name} ({status}): {steps}": "{name} ({status}) : {steps}",
    "time of a step: {waiting} waiting for data + {computing} computing": (
        "durée d'un pas : {waiting} d'attente des données + {computing} de calcul"
    ),
    "training loss {loss}, validation accuracy {accuracy}": (
        "perte d'entraînement {loss}, exactitude de validation {accuracy}"
    ),
    "earlier, {name}: {time} a step, {memory}, {rate} images/s, validation accuracy {accuracy}": (
        "avant, {name} : {time} par pas, {memory}, {rate} images/s, exactitude de validation {accuracy}"
    ),
    # A comparison
    "effect": "effet",
    "95 % interval": "intervalle à 95 %",
    "verdict": "verdict",
    "{changes}: {done} of {pairs} pairs, {status}": "{changes} : {done} des {pairs} paires, {status}",
    "Too few pairs to judge: {why}.": "Trop peu de paires pour conclure : {why}.",
    "Baseline and variant: medians over the runs. Effect: median of the pairs' own ratios (accuracy: differences), so "
    "it need not be variant / baseline. Interval: 95 %, Student's t around their mean. Each row is judged by itself: "
    "of twenty rows without any difference, one on average shows one.": (
        "Référence et variante : médianes des entraînements. Effet : médiane des rapports de chaque paire (exactitude "
        ": des différences) ; ce n'est donc pas forcément le rapport variante / référence de la ligne. Intervalle : à "
        "95 %, loi de Student autour de leur moyenne. Chaque ligne est jugée à part : sur vingt lignes sans aucune "
        "différence, une en moyenne en montre une."
    ),
    "Memory of several processes is added up: what they share counts once for each.": (
        "La mémoire de plusieurs processus est additionnée : ce qu'ils partagent compte une fois pour chacun."
    ),
    "Other programs used at most {share}% of this machine's cores during a run.": (
        "D'autres programmes ont utilisé au plus {share} % des cœurs de cette machine pendant un entraînement."
    ),
    "Claimed:": "Affirmation :",
    "Claimed: {sentence}": "Affirmation : {sentence}",
    "{sentence} [{why}]: {outcome}": "{sentence} [{why}] : {outcome}",
    "{title}: {effect}, 95 % interval {between}": "{title} : {effect}, intervalle à 95 % : {between}",
    "{title}: {verdict}, {why}": "{title} : {verdict}, {why}",
    "{technique}: {before} in the baseline, {after} in the variant": (
        "{technique} : {before} dans la référence, {after} dans la variante"
    ),
    "{why}: what differs is less than a tenth of the processes' memory": (
        "{why} : la différence est inférieure à un dixième de la mémoire des processus"
    ),
    ", a small difference: less than a tenth": ", petite différence : moins d'un dixième",
    ", a small difference: less than half a point": ", petite différence : moins d'un demi-point",
    "{why}, which leaves room for {effect}": "{why}, ce qui laisse place à {effect}",
    "variant / baseline": "rapport variante / référence",
    "variant - baseline, in points": "variante - référence, en points",
    "warm-up, {arm}": "échauffement, {arm}",
    "pair {pair} of {pairs}, {arm}": "paire {pair} sur {pairs}, {arm}",
    "no pair is done yet": "aucune paire n'est encore terminée",
    "{technique}: what its lesson kept cannot be read. {error}": (
        "{technique} : ce que sa leçon a gardé est illisible. {error}"
    ),
    # Predictions
    "by a factor of": "d'un facteur",
    "by so many points": "d'un écart en points",
    "Commit": "Valider",
    "<b>{title}</b>, with the technique on:": "<b>{title}</b>, avec la technique :",
    "Choose a direction, then a size, then commit: it cannot be changed afterwards.": (
        "Choisissez un sens, puis une ampleur, puis validez : on ne peut plus changer ensuite."
    ),
    "You are about to say: {guess}.": "Vous allez dire : {guess}.",
    "Committed: {guess}.": "Validé : {guess}.",
    "{title}: {guess} (committed {when} UTC)": "{title} : {guess} (validé le {when} UTC)",
    "{title}: you had committed to “{kept}” before, and that stays.": (
        "{title} : vous aviez déjà validé « {kept} », et cela reste."
    ),
    "{title}: no earlier prediction could be read, and its file is kept. {error}": (
        "{title} : la prédiction précédente est illisible, et son fichier est conservé. {error}"
    ),
    "{title}: kept until this kernel ends only, as it could not be stored: {error}": (
        "{title} : gardée jusqu'à la fin de ce noyau seulement, car elle n'a pas pu être enregistrée : {error}"
    ),
    "predicted": "prédit",
    "measured": "mesuré",
    "points": "points",
    "how they agree": "accord",
    "{points} of {of}": "{points} sur {of}",
    "{points} of {of} points.": "Points : {points} sur {of}.",
    "no score": "sans note",
    "A point for the direction; one for a size inside the interval or within a factor of two.": (
        "Un point pour le sens ; un autre pour une ampleur dans l'intervalle ou à un facteur deux près."
    ),
    "No prediction was made.": "Aucune prédiction n'a été faite.",
    "No score: {why}.": "Sans note : {why}.",
    "No score: the runs scatter too much to tell.": "Sans note : les entraînements varient trop pour trancher.",
    "{technique} is {before} in the baseline and {after} in the variant": (
        "{technique} vaut {before} dans la référence et {after} dans la variante"
    ),
    "the prediction was committed after the comparison had begun": (
        "la prédiction a été validée après le début de la comparaison"
    ),
    "The direction agrees.": "Le sens est juste.",
    "The direction agrees. Next time, commit to a size, too.": (
        "Le sens est juste. La prochaine fois, avancez aussi une ampleur."
    ),
    "The direction agrees, and the size lies inside the interval.": (
        "Le sens est juste, et l'ampleur est dans l'intervalle."
    ),
    "The direction agrees, and the size is right within a factor of two.": (
        "Le sens est juste, et l'ampleur l'est à un facteur deux près."
    ),
    "The direction agrees. The effect was larger than you said: {effect}. What makes it so here?": (
        "Le sens est juste. L'effet est plus grand que prévu : {effect}. À quoi cela tient-il ici ?"
    ),
    "The direction agrees. The effect was smaller than you said: {effect}. What makes it so here?": (
        "Le sens est juste. L'effet est plus petit que prévu : {effect}. À quoi cela tient-il ici ?"
    ),
    "No difference was detected here, and one of a tenth that way is excluded. What stays as it was, and why?": (
        "Aucune différence n'a été détectée ici, et une différence d'un dixième dans ce sens est exclue. Qu'est-ce qui "
        "n'a pas changé, et pourquoi ?"
    ),
    "No difference was detected here, and one of half a point that way is excluded. What stays as it was, and why?": (
        "Aucune différence n'a été détectée ici, et une différence d'un demi-point dans ce sens est exclue. Qu'est-ce "
        "qui n'a pas changé, et pourquoi ?"
    ),
    "It did change here: {effect}. Which part of a step, or of the memory, does the technique touch?": (
        "Cela a bien changé ici : {effect}. À quelle partie du pas, ou de la mémoire, la technique touche-t-elle ?"
    ),
    "It went the other way here: {effect}. Such predictions teach the most: which cost was left out?": (
        "C'est allé dans l'autre sens ici : {effect}. Ces prédictions sont les plus instructives : quel coût avait été "
        "oublié ?"
    ),
    # The class board
    "Technique": "Technique",
    "Measured": "Mesure",
    "Other changes": "Autres changements",
    "other hardware": "autre matériel",
    "machine {number}": "machine {number}",
    "{n} machine": "{n} machine",
    "{n} machines": "{n} machines",
    "{n} pair": "{n} paire",
    "{n} pairs": "{n} paires",
    "{changes} on {task}": "{changes}, sur {task}",
    "{n} result from {machines} in {folder}, as of {time}": "{n} résultat de {machines} dans {folder}, à {time}",
    "{n} results from {machines} in {folder}, as of {time}": "{n} résultats de {machines} dans {folder}, à {time}",
    "{words}; {more}": "{words} ; {more}",
    "{n} result: {parts}.": "{n} résultat : {parts}.",
    "{n} results: {parts}.": "{n} résultats : {parts}.",
    "{n} lower": "{n} en baisse",
    "{n} higher": "{n} en hausse",
    "{n} no difference detected": "{n} sans différence détectée",
    "{n} without a verdict": "{n} sans verdict",
    "The same technique wins here and loses there.": "La même technique gagne ici et perd là.",
    "Claimed: {direction}. {outcomes}.": "Affirmation : {direction}. {outcomes}.",
    "{what} {n}": "{what} : {n}",
    "; predicted {guess}": " ; prédit : {guess}",
    "predicted, direction only": "prédit, le sens seul",
    "no difference": "sans différence",
    "too few pairs": "trop peu de paires",
    "◀ lower: it wins": "◀ baisse : gain",
    "higher: it loses ▶": "hausse : perte ▶",
    "◀ lower: it loses": "◀ baisse : perte",
    "higher: it wins ▶": "hausse : gain ▶",
    "No result for {technique} yet.": "Pas encore de résultat pour : {technique}.",
    "waiting for the first result": "en attente du premier résultat",
    "Effect: with the technique, against without it, on the same machine. Shaded: less than a tenth.": (
        "Effet de la technique : avec, par rapport à sans, sur la même machine. Zone grisée : moins d'un dixième."
    ),
    "Effect: with the technique, against without it, on the same machine. Shaded: less than half a point.": (
        "Effet de la technique : avec, par rapport à sans, sur la même machine. Zone grisée : moins d'un demi-point."
    ),
    "Each interval is one machine's: of twenty machines without any difference, one on average shows one.": (
        "Chaque intervalle est celui d'une machine : sur vingt machines sans aucune différence, une en moyenne en "
        "montre une."
    ),
    "Without a bar: no verdict (too few pairs, or a smoke run, in which no figure means anything).": (
        "Sans barre : pas de verdict (trop peu de paires, ou exécution abrégée, dont aucun chiffre n'a de sens)."
    ),
    "{n} more result does not fit here: to_csv() and to_frame() have them all.": (
        "{n} autre résultat ne tient pas ici : to_csv() et to_frame() les donnent tous."
    ),
    "{n} more results do not fit here: to_csv() and to_frame() have them all.": (
        "{n} autres résultats ne tiennent pas ici : to_csv() et to_frame() les donnent tous."
    ),
    "Skipped: {name}: {why}": "Ignoré : {name} : {why}",
    "<b>{name}</b> is skipped: {why}": "<b>{name}</b> est ignoré : {why}",
    "{n} more file is skipped.": "{n} autre fichier est ignoré.",
    "{n} more files are skipped.": "{n} autres fichiers sont ignorés.",
    "Not up to date: {why}": "Pas à jour : {why}",
    "The folder {folder} cannot be looked into ({why}). As soon as it can be, it will.": (
        "Le dossier {folder} ne peut pas être lu ({why}). Il le sera dès que possible."
    ),
    "Nickname (optional)": "Pseudonyme (facultatif)",
    "Share": "Partager",
    "Your lessons have kept: {found}.": "Vos leçons ont gardé : {found}.",
    "Your lessons have kept nothing yet.": "Vos leçons n'ont encore rien gardé.",
    "a button that shares what the lessons have kept (live widgets: run this cell to use them)": (
        "un bouton qui partage ce que les leçons ont gardé (widgets interactifs : exécutez cette cellule pour les "
        "utiliser)"
    ),
    "On the board: {what}.": "Au tableau : {what}.",
    "On the board as {name}: {what}.": "Au tableau, sous le nom de {name} : {what}.",
    ", with {n} prediction beside it": ", avec {n} prédiction à côté",
    ", with {n} predictions beside it": ", avec {n} prédictions à côté",
}

KEPT = {  # what is kept or compared in English, errors, and tables of words: recognised where it is shown
    # Titles of the switches and of the task
    "Precision": "Précision",
    "Early stopping": "Arrêt anticipé",
    "Augmentation": "Augmentation",
    "Batch norm": "Normalisation par lots",
    "Workers": "Chargement parallèle",
    "Cache": "Mise en cache",
    "Images from": "Origine des images",
    "Training images": "Nombre d'images",
    "Epochs": "Époques",
    "Batch size": "Taille de lot",
    "Learning rate": "Taux d'apprentissage",
    "Network": "Réseau",
    "Optimizer": "Optimiseur",
    "Schedule": "Évolution du taux",
    "Seed": "Graine",
    # Values of the switches
    "off": "non",
    "light": "légère",
    "heavy": "forte",
    "disk": "disque",
    "ram": "RAM",
    "device": "périphérique",
    # What a recipe's fields mean
    "number format of the arithmetic in a step": "format des nombres dans les calculs d'un pas",
    "epochs without a better validation loss after which the run ends; none = off": (
        "époques sans meilleure perte de validation après lesquelles l'entraînement s'arrête"
    ),
    "light: random crop and flip; heavy: RandAugment": (
        "légère (« light ») : recadrage et miroir aléatoires ; forte (« heavy ») : RandAugment"
    ),
    "batch normalisation in the network": "normalisation par lots dans le réseau",
    "processes that prepare batches beside the training process": (
        "processus qui préparent des lots à côté de celui qui entraîne"
    ),
    "where decoded images are kept": (
        "où l'on garde les images décodées : sur disque (« disk »), en mémoire (« ram »), sur le périphérique de "
        "calcul (« device »)"
    ),
    "where the images come from": "d'où viennent les images",
    "number of training images; none = all": "nombre d'images d'entraînement",
    "pixels a side that the network sees; none = the source's own": "côté des images que voit le réseau, en pixels",
    "pixels a side of the stored images, for jpeg and sqlite": (
        "côté des images enregistrées, en pixels, pour jpeg et sqlite"
    ),
    "network": "réseau",
    "passes over the training images, at most": "passages sur les images d'entraînement, au plus",
    "steps, at most; none = no limit": "pas, au plus",
    "images a step": "images par pas",
    "sgd has Nesterov momentum 0.9": "sgd a une inertie de Nesterov de 0.9",
    "learning rate; with one_cycle, its peak": "taux d'apprentissage ; avec one_cycle, son maximum",
    "how the learning rate moves during the run": "évolution du taux d'apprentissage pendant l'entraînement",
    "L2 penalty on the weights (not on biases and norms)": "pénalité L2 sur les poids (ni biais ni normalisations)",
    "seed of the weights, the order of images and the augmentation": (
        "graine des poids, de l'ordre des images et de l'augmentation"
    ),
    "where to train": "où entraîner",
    "smallest fall of the validation loss that counts as better": (
        "plus petite baisse de la perte de validation qui compte comme un progrès"
    ),
    "largest shift of the random crop, in pixels": "plus grand décalage du recadrage aléatoire, en pixels",
    "images that fit in the cache; none = all": "images que contient le cache",
    "batches that each worker prepares ahead": "lots que chaque processus prépare d'avance",
    "page-locked batches, where the device is a CUDA GPU": "lots en mémoire verrouillée, si le périphérique est un GPU",
    "how worker processes are started": "façon de démarrer les processus de chargement",
    "store images and filters channels last": "images et filtres rangés avec les canaux en dernier",
    "train also where three steps in fp16 were timed at over three times fp32's here": (
        "entraîner même si trois pas en fp16 ont pris ici plus de trois fois le temps de fp32"
    ),
    "read the test set once, after the run": "lire une fois le jeu de test, après l'entraînement",
    # A run
    "new": "nouveau",
    "running": "en cours",
    "finished": "terminé",
    "stopped": "arrêté",
    "failed": "échec",
    "stopped by hand": "arrêt manuel",
    "run": "entraînement",
    "time": "durée",
    "a step": "un pas",
    "throughput": "débit",
    "peak memory of the processes": "pic de mémoire des processus",
    "peak memory on the device": "pic de mémoire sur le périphérique",
    "accuracy": "exactitude",
    "where the time goes": "où passe le temps",
    "energy": "énergie",
    "smoke": "exécution abrégée",
    "Cut to a few steps by SPEEDKIT_SMOKE: no figure here means anything.": (
        "Réduit à quelques pas par SPEEDKIT_SMOKE : aucun de ces chiffres n'a de sens."
    ),
    "images evaluated": "images évaluées",
    "validation images decoded": "images de validation décodées",
    "training images decoded for the accuracy": "images d'entraînement décodées pour l'exactitude",
    "pictures written into the database, once": "images écrites dans la base de données, une fois pour toutes",
    "JPEG files written, once": "fichiers JPEG écrits, une fois pour toutes",
    "{name} has no bf16 arithmetic: it is emulated.": "{name} ne calcule pas en bf16 : c'est émulé.",
    "With cache='device' nothing is left for workers to do: none are started.": (
        "Avec cache='device', il ne reste rien à faire aux processus de chargement : aucun n'est démarré."
    ),
    "{taken} of {cores} cores go to workers: torch computes with {threads} thread.": (
        "Cœurs pris par les processus de chargement : {taken} sur {cores} ; torch calcule avec {threads} thread."
    ),
    "{taken} of {cores} cores go to workers: torch computes with {threads} threads.": (
        "Cœurs pris par les processus de chargement : {taken} sur {cores} ; torch calcule avec {threads} threads."
    ),
    "{workers} workers on {cores} cores compete with the training itself.": (
        "Processus de chargement : {workers}, cœurs : {cores} ; l'entraînement lui-même doit les partager."
    ),
    "Other programs used {share}% of this machine's cores during the run: close them and run again before you trust "
    "its times.": (
        "D'autres programmes ont utilisé {share} % des cœurs de cette machine pendant l'entraînement : fermez-les et "
        "relancez avant de vous fier à ses durées."
    ),
    "Up to {n} other speedkit run was active on this machine: run again when it is quiet before you trust these "
    "times.": (
        "Jusqu'à {n} autre entraînement speedkit était actif sur cette machine : relancez au calme avant de vous fier "
        "à ces durées."
    ),
    "Up to {n} other speedkit runs were active on this machine: run again when it is quiet before you trust these "
    "times.": (
        "Jusqu'à {n} autres entraînements speedkit étaient actifs sur cette machine : relancez au calme avant de vous "
        "fier à ces durées."
    ),
    "The loss became {value} at step {step}: lower the learning rate, or choose a precision with more range.": (
        "La perte est devenue {value} au pas {step} : baissez le taux d'apprentissage, ou choisissez une précision de "
        "plus grande étendue."
    ),
    # What a panel's run cannot do
    "{name}={value} is not allowed: give {allowed}.": "{name}={value} n'est pas permis : donnez {allowed}.",
    "a whole number from {low} to {high}": "un nombre entier de {low} à {high}",
    "a whole number from {low} to {high}, or None": "un nombre entier de {low} à {high}, ou None",
    "a number from {low} to {high}": "un nombre de {low} à {high}",
    "subset={subset} is smaller than batch_size={batch}: no whole batch would be left; raise subset or lower "
    "batch_size.": (
        "subset={subset} est plus petit que batch_size={batch} : il ne resterait pas un lot entier ; augmentez subset "
        "ou réduisez batch_size."
    ),
    "precision='tf32' needs an NVIDIA GPU with tensor cores (Ampere or newer), and this is {name}: choose fp32 or "
    "bf16.": (
        "precision='tf32' demande un GPU NVIDIA avec tensor cores (Ampere ou plus récent), et ceci est {name} : "
        "choisissez fp32 ou bf16."
    ),
    "workers={workers} is more than four times the {cores} cores here: choose at most {most}.": (
        "workers={workers} dépasse quatre fois les {cores} cœurs d'ici : choisissez {most} au plus."
    ),
    "Three fp16 steps took {times} times as long as three fp32 steps: this processor has no fp16 arithmetic and "
    "emulates it. Choose bf16 or fp32, or set allow_slow=True to train so all the same.": (
        "Trois pas en fp16 ont pris {times} fois plus de temps que trois pas en fp32 : ce processeur ne calcule pas en "
        "fp16 et l'émule. Choisissez bf16 ou fp32, ou donnez allow_slow=True pour entraîner quand même."
    ),
    # A comparison
    "baseline": "référence",
    "variant": "variante",
    "two equal recipes": "deux recettes égales",
    "lower": "baisse",
    "same": "stable",
    "higher": "hausse",
    "no difference detected": "aucune différence détectée",
    "too few pairs to judge": "trop peu de paires pour conclure",
    "n/a": "n/d",
    "held here": "tient ici",
    "did not hold here": "ne tient pas ici",
    "the opposite": "le contraire",
    "cannot tell": "on ne peut pas trancher",
    "no prediction was made": "aucune prédiction",
    "time per step (mean)": "durée d'un pas (moyenne)",
    "waiting for data per step (mean)": "attente des données par pas (moyenne)",
    "time of the whole run, preparation included": "durée de tout l'entraînement, préparation comprise",
    "time to the target accuracy, preparation included": "durée jusqu'à l'exactitude visée, préparation comprise",
    "time to {share}% validation accuracy, preparation included": (
        "durée jusqu'à {share} % d'exactitude de validation, préparation comprise"
    ),
    "peak memory of the processes, libraries included": "pic de mémoire des processus, bibliothèques comprises",
    "main memory of the processes at the end": "mémoire centrale des processus à la fin",
    "images read from the source while training": "images lues à la source pendant l'entraînement",
    "energy of the GPU": "énergie du GPU",
    "validation accuracy": "exactitude de validation",
    "a smoke run never carries a verdict": "une exécution abrégée ne donne jamais de verdict",
    "{done} of the {pairs} pairs that a verdict needs": "{done} des {pairs} paires qu'exige un verdict",
    "{done} of the {pairs} pairs that are planned": "{done} des {pairs} paires prévues",
    "not measured here": "non mesuré ici",
    "no target set": "aucun objectif fixé",
    "known in {known} of {pairs} pairs": "connu dans {known} des {pairs} paires",
    "reached in {first} and {second} of {runs} runs": "atteint dans {first} et {second} des {runs} entraînements",
    "warm-up, {arm}: {error}": "échauffement, {arm} : {error}",
    "pair {pair} of {pairs}, {arm}: {error}": "paire {pair} sur {pairs}, {arm} : {error}",
    "The disk cache was filled before the first counted run: it is compared warm.": (
        "Le cache sur disque a été rempli avant le premier entraînement compté : il est comparé à chaud."
    ),
    "It waited {time} for its turn among the comparisons on this machine.": (
        "La comparaison a attendu son tour {time} parmi celles de cette machine."
    ),
    "It could not wait for other comparisons on this machine ({problem}): name a folder that all its users can write "
    "in SPEEDKIT_TURNS, or set that to off.": (
        "Impossible d'attendre les autres comparaisons de cette machine ({problem}) : indiquez dans SPEEDKIT_TURNS un "
        "dossier où tous ses utilisateurs peuvent écrire, ou donnez-lui la valeur off."
    ),
    "Other speedkit runs were active on this machine: no time here is of a run alone.": (
        "D'autres entraînements speedkit étaient actifs sur cette machine : aucune durée n'est ici celle d'un "
        "entraînement seul."
    ),
    "This comparison could not be kept for the last lesson: {error}": (
        "Cette comparaison n'a pas pu être gardée pour la dernière leçon : {error}"
    ),
    # The article's claims
    "Reduced precision cuts memory and speeds up processing.": (
        "La précision réduite diminue la mémoire et accélère les calculs."
    ),
    "Early stopping saves time and resources.": "L'arrêt anticipé économise du temps et des ressources.",
    "Augmentation on the fly reduces the memory needed in training.": (
        "L'augmentation à la volée réduit la mémoire nécessaire à l'entraînement."
    ),
    "Batch normalisation stabilises and speeds up convergence and makes better use of memory.": (
        "La normalisation par lots stabilise et accélère la convergence, et utilise mieux la mémoire."
    ),
    "Preparing data in parallel reduces waiting.": "Préparer les données en parallèle réduit l'attente.",
    "Caching avoids frequent calls to the database and speeds up training.": (
        "La mise en cache évite des appels fréquents à la base de données et accélère l'entraînement."
    ),
    # The class board
    "smoke run": "exécution abrégée",
    "NVIDIA GPU": "GPU NVIDIA",
    "CPU": "CPU",
    "Apple GPU": "GPU Apple",
    "unknown machine": "machine inconnue",
    "the default recipe": "la recette par défaut",
    "No folder is named for the class board: give folder=..., or set the environment variable SPEEDKIT_BOARD to a "
    "folder that everybody in the room can write.": (
        "Aucun dossier n'est indiqué pour le tableau de la classe : donnez folder=..., ou la variable d'environnement "
        "SPEEDKIT_BOARD, avec un dossier où toute la salle peut écrire."
    ),
    "The class board's folder {folder} cannot be written ({why}): it has to be there, and everybody must be allowed to "
    "write in it.": (
        "Le dossier {folder} du tableau de la classe n'est pas accessible en écriture ({why}) : il doit exister, et "
        "tout le monde doit pouvoir y écrire."
    ),
    "No pair of this comparison is done yet: there is nothing to share.": (
        "Aucune paire de cette comparaison n'est encore terminée : il n'y a rien à partager."
    ),
    "only the first {count} files were read": "seuls les {count} premiers fichiers ont été lus",
    "it cannot be read: {why}": "illisible : {why}",
    "it is not an ordinary file": "ce n'est pas un fichier ordinaire",
    "it is larger than {size} MB": "il dépasse {size} Mo",
    "it is no text": "ce n'est pas du texte",
    "it is not JSON: {error}": "ce n'est pas du JSON : {error}",
    "it is nested too deeply": "il est trop profondément imbriqué",
    "it does not say format {format}, kind board": "il n'annonce pas format {format}, kind board",
    "a metric is there twice": "une mesure y figure deux fois",
    "{name} is missing": "{name} manque",
    "{name} is unknown": "{name} est inconnu",
    "{what} should be {kind}, not {other}": "{what} devrait être {kind}, et non {other}",
    "{what} is longer than {longest} characters": "{what} dépasse {longest} caractères",
    "{what} is {value}, not one of {allowed}": "{what} vaut {value}, hors de {allowed}",
    "{what} is not a number from 0 to {most}": "{what} n'est pas un nombre de 0 à {most}",
    "{what} is no number": "{what} n'est pas un nombre",
    "{what} is not a number as share() draws it": "{what} n'est pas un numéro tiré par share()",
    "{what} is no moment in time": "{what} n'est pas un instant",
    "{what} are more than 20": "{what} : plus de 20",
    "there are not 1 to {most} {what}": "il n'y a pas de 1 à {most} {what}",
    "{metric} should say is_ratio {is_ratio}": "{metric} devrait dire is_ratio {is_ratio}",
    "{metric} has half an interval": "{metric} n'a qu'un demi-intervalle",
    "{metric} has an effect that there cannot be": "{metric} a un effet impossible",
    "{metric} has an interval without its effect": "{metric} a un intervalle sans son effet",
}
